// SPDX-License-Identifier: MIT
// A mirror's life, on the readers' worker (B), and its feed's, on the tape's (A):
//
//   B: asked for --first news--> fed --the tape's end, or the last reader left--> gone
//   A: feed made by `ask` --the tape's end was passed on, or `leave`--> gone
//
// Messages name a mirror by the tape's id and a serial number, and are looked up on arrival: neither side holds a
// pointer to the other's objects. What arrives for one that is gone is dropped, its blocks with it.
#include "tape/mirror.h"

#include <assert.h>

#include "base/mem.h"

enum { PARTS = 64 };

struct mirror {
    struct map_node node; // in shelf->mirrors
    struct shelf *shelf;
    struct tape_id id;
    uint64_t serial;
    unsigned where;
    struct tape *tape;    // NULL: asked for
    struct digest tenant; // whose it is
    struct list waits;    // until the first news, or the next ones
    bool serving;         // them: whoever leaves meanwhile is not the last
};

// ---- messages

struct to_feed {
    struct message message;
    struct shelf *shelf;
    struct tape_id id;
    uint64_t serial;
    unsigned from;
    struct tape_why why; // of stop
    char problem[];
};

struct news {
    struct message message;
    struct shelf *shelf;
    struct tape_id id;
    uint64_t serial;
    enum shelf_find found;
    struct digest tenant; // the first one's
    uint64_t keep, start, marks_gone;
    bool first;
    bool has_head;
    struct tape_head head; // fields empty; packed in:
    char *fields;
    unsigned field_count;
    uint64_t *marks;
    size_t marks_count;
    struct tape_part parts[PARTS];
    int part_count;
    struct tape_why why; // where it ended
    char *problem;
};

static void free_news(struct news *n) {
    for (int i = 0; i < n->part_count; i++) {
        tape_part_drop(&n->parts[i]);
    }
    free(n->fields);
    free(n->marks);
    free(n->problem);
    free(n);
}

static void post(struct shelf *from, unsigned to, struct message *message) {
    loop_post(from->all->shelves[to]->loop, message);
}

// ---- A: the feed

struct feed {
    struct tape_reader reader;
    struct list node; // in kept->feeds
    struct shelf *shelf;
    struct task task;
    struct grave grave;
    struct tape_id id;
    uint64_t serial;
    unsigned to;
    struct digest tenant;
    bool told; // the first news
    bool has_head_sent;
    uint64_t marks_sent;
};

static struct feed *feed_of(struct tape_reader *r) { return container_of(r, struct feed, reader); }

static void bury_feed(struct grave *grave) { free(container_of(grave, struct feed, grave)); }

static void feed_end(struct feed *f) {
    task_cancel(&f->task);
    list_unlink(&f->node);
    f->shelf->feeds--;
    tape_leave(&f->reader);
    loop_bury(f->shelf->loop, &f->grave, bury_feed);
}

void feeds_end(struct tape_kept *kept) {
    list_each(node, &kept->feeds) { feed_end(container_of(node, struct feed, node)); }
}

static void feed_later(struct feed *f) { loop_flush_later(f->shelf->loop, &f->task); }

static void feed_on_head(struct tape_reader *r, const struct tape_head *head UNUSED) { feed_later(feed_of(r)); }
static size_t feed_on_bytes(struct tape_reader *r, const struct iovec *v UNUSED, int count UNUSED, bool last UNUSED) {
    feed_later(feed_of(r));
    return 0; // taken when they are passed on
}
static void feed_on_end(struct tape_reader *r, const struct tape_why *why UNUSED) { feed_later(feed_of(r)); }
static const struct tape_reader_events feed_events = {feed_on_head, feed_on_bytes, feed_on_end};

static void tell_head(struct feed *f, struct news *n) {
    const struct tape *t = f->reader.tape;
    if (!t->has_head || f->has_head_sent) {
        return;
    }
    f->has_head_sent = true;
    n->has_head = true;
    n->head = (struct tape_head){.status = t->head.status, .body_len = t->head.body_len};
    n->field_count = t->head.fields.n;
    n->fields = xmalloc(fields_packed_size(&t->head.fields));
    fields_pack(&t->head.fields, n->fields);
}

static void tell_marks(struct feed *f, struct news *n) {
    const struct tape *t = f->reader.tape;
    uint64_t from = MAX(f->marks_sent, t->marks_gone);
    uint64_t end = t->marks_gone + t->marks_count;
    n->marks_gone = from;
    if (from < end) {
        n->marks_count = (size_t)(end - from);
        n->marks = xmalloc(n->marks_count * sizeof *n->marks);
        memcpy(n->marks, t->marks + (from - t->marks_gone), n->marks_count * sizeof *n->marks);
        f->marks_sent = end;
    }
}

static struct news *new_news(struct feed *f) {
    struct news *n = xcalloc(1, sizeof *n);
    n->id = f->id;
    n->serial = f->serial;
    n->shelf = f->shelf->all->shelves[f->to];
    n->found = SHELF_HERE;
    return n;
}

static void deliver_news(struct message *message);

// Passes on what is new, in as many messages as it takes; the end with the last one.
static void feed_run(struct task *task) {
    struct feed *f = container_of(task, struct feed, task);
    struct tape *t = f->reader.tape;
    bool more = !f->shelf->all->closing;
    while (more) {
        struct news *n = new_news(f);
        n->first = !f->told;
        n->tenant = f->tenant;
        n->keep = t->keep;
        n->start = f->reader.position;
        f->told = true;
        tell_head(f, n);
        tell_marks(f, n);
        n->part_count = tape_share(t, f->reader.position, n->parts, PARTS);
        for (int i = 0; i < n->part_count; i++) {
            f->reader.position += n->parts[i].bytes.len;
        }
        more = f->reader.position < t->written;
        if (!more && !tape_running(t)) {
            n->why = t->why;
            n->problem = t->why.problem ? str_dup(str_c(t->why.problem)) : NULL;
        }
        n->message.deliver = deliver_news;
        post(f->shelf, f->to, &n->message);
    }
    if (!tape_running(t)) {
        feed_end(f);
    }
}

static void refuse_news(const struct to_feed *ask, enum shelf_find found) {
    struct news *n = xcalloc(1, sizeof *n);
    n->id = ask->id;
    n->serial = ask->serial;
    n->shelf = ask->shelf->all->shelves[ask->from];
    n->found = found;
    n->message.deliver = deliver_news;
    post(ask->shelf, ask->from, &n->message);
}

static struct tape *find_here(const struct to_feed *m, enum shelf_find *found) {
    struct tape *t = NULL;
    unsigned where;
    *found = shelf_find(m->shelf, str_c(m->id.text), &t, &where);
    if (*found == SHELF_HERE && !t->kept) {
        *found = SHELF_GONE; // its bytes are
    }
    return *found == SHELF_HERE ? t : NULL;
}

static void deliver_ask(struct message *message) {
    struct to_feed *ask = container_of(message, struct to_feed, message);
    enum shelf_find found;
    struct tape *t = ask->shelf->all->closing ? NULL : find_here(ask, &found);
    if (t) {
        struct feed *f = xcalloc(1, sizeof *f);
        f->shelf = ask->shelf;
        f->task.run = feed_run;
        f->id = ask->id;
        f->serial = ask->serial;
        f->to = ask->from;
        f->tenant = t->kept->tenant;
        f->shelf->feeds++;
        shelf_joined(t);
        list_push_back(&t->kept->feeds, &f->node);
        tape_open(t, &f->reader, &feed_events, tape_start(t));
        feed_later(f);
    } else if (!ask->shelf->all->closing) {
        refuse_news(ask, found);
    }
    free(ask);
}

static void deliver_leave(struct message *message) {
    struct to_feed *leave = container_of(message, struct to_feed, message);
    enum shelf_find found;
    struct tape *t = leave->shelf->all->closing ? NULL : find_here(leave, &found);
    struct feed *of = NULL;
    if (t) {
        list_each(node, &t->kept->feeds) {
            struct feed *f = container_of(node, struct feed, node);
            of = f->to == leave->from && f->serial == leave->serial ? f : of;
        }
    }
    if (of) {
        feed_end(of);
    }
    free(leave);
}

static void deliver_stop(struct message *message) {
    struct to_feed *stop = container_of(message, struct to_feed, message);
    enum shelf_find found;
    struct tape *t = stop->shelf->all->closing ? NULL : find_here(stop, &found);
    if (t) {
        tape_ref(t);
        tape_stop(t, &stop->why);
        tape_unref(t);
    }
    free(stop);
}

// ---- B: the mirror

static void send_to_feed(struct mirror *m, void (*deliver)(struct message *message), const struct tape_why *why) {
    struct shelves *all = m->shelf->all;
    const char *problem = why && why->problem ? why->problem : "";
    struct to_feed *to = xcalloc(1, sizeof *to + strlen(problem) + 1);
    to->message.deliver = deliver;
    to->shelf = all->shelves[m->where];
    to->id = m->id;
    to->serial = m->serial;
    to->from = m->shelf->number;
    if (why) {
        to->why = *why;
        memcpy(to->problem, problem, strlen(problem) + 1);
        to->why.problem = why->problem ? to->problem : NULL;
    }
    post(m->shelf, m->where, &to->message);
}

// The tape stays with its readers.
static void mirror_end(struct mirror *m) {
    struct tape *t = m->tape;
    map_remove(&m->shelf->mirrors, &m->node);
    if (t) {
        t->events = NULL;
        tape_unref(t);
    }
    free(m);
}

static void mirror_on_abandoned(struct tape *t) {
    struct mirror *m = t->writer;
    if (m->serving || !list_empty(&m->waits)) {
        return;
    }
    if (!m->shelf->all->closing) {
        send_to_feed(m, deliver_leave, NULL);
    }
    mirror_end(m);
}

static void mirror_on_stop(struct tape *t, const struct tape_why *why) { send_to_feed(t->writer, deliver_stop, why); }

static const struct tape_events mirror_events = {NULL, mirror_on_abandoned, mirror_on_stop};

static uint64_t hash_of(const struct tape_id *id) {
    uint64_t hash;
    memcpy(&hash, id->text, sizeof hash);
    return hash;
}

static struct mirror *find_mirror(const struct shelf *shelf, const struct tape_id *id) {
    for (struct map_node *node = map_find(&shelf->mirrors, hash_of(id)); node; node = map_next(node)) {
        struct mirror *m = container_of(node, struct mirror, node);
        if (strcmp(m->id.text, id->text) == 0) {
            return m;
        }
    }
    return NULL;
}

// Everybody who waits gets the tape, or hears why not.
static void serve(struct list *waits, enum shelf_find found, struct tape *t, const struct digest *tenant) {
    struct list *node;
    while ((node = list_pop_front(waits))) {
        struct mirror_wait *wait = container_of(node, struct mirror_wait, node);
        bool allowed = found == SHELF_HERE && (wait->anybody || digest_equal(&wait->tenant, tenant));
        wait->on_tape(wait, allowed ? SHELF_HERE : found == SHELF_HERE ? SHELF_UNKNOWN : found, allowed ? t : NULL);
    }
}

// May end the mirror: nobody may want the tape after all.
static void serve_tape(struct mirror *m) {
    struct list waits;
    struct tape *t = tape_ref(m->tape);
    bool inside = m->serving;
    list_move_all(&waits, &m->waits);
    m->serving = true;
    serve(&waits, SHELF_HERE, t, &m->tenant);
    m->serving = inside;
    if (!inside && tape_running(t) && list_empty(&t->readers)) {
        mirror_on_abandoned(t);
    }
    tape_unref(t);
}

// There is no such tape; who asks for it again asks anew.
static void serve_refusal(struct mirror *m, enum shelf_find found) {
    struct list waits;
    struct digest nobody = {{0}};
    list_move_all(&waits, &m->waits);
    mirror_end(m);
    serve(&waits, found, NULL, &nobody);
}

static void begin_mirror(struct mirror *m, const struct news *n) {
    m->tenant = n->tenant;
    m->tape = tape_create(&mirror_events, m);
    m->tape->id = xmalloc(sizeof *m->tape->id);
    *m->tape->id = m->id;
    m->tape->keep = n->keep;
    m->tape->written = n->start;
    m->tape->marks_gone = n->marks_gone;
}

static void take_head(struct tape *t, const struct news *n) {
    struct field *room = xcalloc(MAX(n->field_count, 1u), sizeof *room);
    struct tape_head head = n->head;
    head.fields = (struct fields){room, 0, n->field_count};
    const char *end = fields_unpack(&head.fields, n->fields);
    assert(end);
    (void)end;
    tape_put_head(t, &head);
    free(room);
}

static void take_news(struct tape *t, struct news *n) {
    if (n->has_head && tape_running(t)) {
        take_head(t, n);
    }
    for (size_t i = 0; i < n->marks_count; i++) {
        tape_mark(t, n->marks[i]);
    }
    for (int i = 0; i < n->part_count && tape_running(t); i++) {
        tape_append_part(t, &n->parts[i], n->why.end == TAPE_WHOLE && i + 1 == n->part_count);
    }
    if (!tape_running(t) || n->why.end == TAPE_RUNNING) {
        return;
    }
    if (n->why.end == TAPE_WHOLE) {
        tape_append(t, STR(""), true);
    } else {
        n->why.problem = n->problem;
        tape_finish(t, &n->why);
    }
}

static void deliver_news(struct message *message) {
    struct news *n = container_of(message, struct news, message);
    struct mirror *m = n->shelf->all->closing ? NULL : find_mirror(n->shelf, &n->id);
    if (!m || m->serial != n->serial) {
        free_news(n);
        return;
    }
    if (n->found != SHELF_HERE) {
        serve_refusal(m, n->found);
        free_news(n);
        return;
    }
    if (n->first) {
        begin_mirror(m, n);
    }
    struct tape *t = tape_ref(m->tape);
    take_news(t, n);
    // Readers may leave at any time, and the mirror with the last one.
    bool there = t->events == &mirror_events;
    if (there) {
        serve_tape(m);
        there = t->events == &mirror_events;
    }
    if (there && !tape_running(t)) {
        mirror_end(m);
    }
    tape_unref(t);
    free_news(n);
}

static void end_one(void *context UNUSED, struct map_node *node) {
    mirror_end(container_of(node, struct mirror, node));
}

void mirror_ask(struct shelf *shelf, const struct tape_id *id, unsigned where, struct mirror_wait *wait) {
    struct mirror *m = find_mirror(shelf, id);
    if (!m) {
        m = xcalloc(1, sizeof *m);
        m->shelf = shelf;
        m->id = *id;
        m->serial = ++shelf->mirror_serial;
        m->where = where;
        list_init(&m->waits);
        map_insert(&shelf->mirrors, &m->node, hash_of(id));
        send_to_feed(m, deliver_ask, NULL);
    }
    list_push_back(&m->waits, &wait->node);
    if (m->tape) {
        serve_tape(m);
    }
}

bool mirror_wait_on(struct tape *t, struct mirror_wait *wait) {
    if (t->events != &mirror_events || !tape_running(t)) {
        return false;
    }
    struct mirror *m = t->writer;
    list_push_back(&m->waits, &wait->node);
    return true;
}

void mirrors_finish(struct shelf *shelf) {
    map_each(&shelf->mirrors, end_one, NULL);
    map_finish(&shelf->mirrors);
}

void mirror_wait_end(struct mirror_wait *wait) { list_unlink(&wait->node); }
