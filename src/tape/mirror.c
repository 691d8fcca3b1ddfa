// SPDX-License-Identifier: MIT
// A mirror's life, on the readers' worker (B), and its feed's, on the tape's (A):
//
//   B: asked for --first news--> fed --the tape's end, or nobody reads it or waits for it any more--> gone
//   A: feed made by `ask` --the tape's end was passed on, or `leave`--> gone
//
// Messages name a mirror by the tape's id and a serial number, and are looked up on arrival: neither side holds a
// pointer to the other's objects. What arrives for one that is gone, or for a shelf that is, is dropped, its blocks with
// it.
#include "tape/mirror.h"

#include <assert.h>

#include "base/mem.h"

enum { PARTS = 64, MARKS = 2048 }; // of one message

struct mirror {
    struct map_node node; // in shelf->mirrors
    struct shelf *shelf;
    struct tape_id id;
    uint64_t serial;
    unsigned where;
    struct tape *tape;    // NULL: asked for
    struct digest tenant; // whose it is
    struct list waits;    // until the first news, or the next ones
    bool busy;            // news are being taken: it stays until they were
    bool fed;             // the feed has, or will have, more to say
};

// ---- messages

struct to_feed {
    struct message message;
    struct shelves *all;
    unsigned to;
    struct tape_id id;
    uint64_t serial;
    unsigned from;
    struct tape_why why; // of stop
    char problem[];
};

struct news {
    struct message message;
    struct shelves *all;
    unsigned to;
    struct tape_id id;
    uint64_t serial;
    enum shelf_find found;
    struct digest tenant; // the first one's
    uint64_t keep, start, marks_gone, created_s;
    bool first;
    struct tape_id name; // the first one's: as the tape is known
    bool has_head;
    bool marks_lost;
    struct tape_head head; // its fields, head.fields.n, are packed in:
    char *fields;
    struct tape_part parts[PARTS];
    int part_count;
    struct tape_why why; // where it ended
    char *problem;
    size_t marks_count;
    uint64_t marks[];
};

static void free_news(struct news *n) {
    for (int i = 0; i < n->part_count; i++) {
        tape_part_drop(&n->parts[i]);
    }
    free(n->fields);
    free(n->problem);
    free(n);
}

static void post(struct shelves *all, unsigned to, struct message *message) {
    loop_post(all->shelves[to]->loop, message);
}

// Where a message has come to; NULL: there is no such shelf any more.
static struct shelf *arrived(struct shelves *all, unsigned to) { return all->closing ? NULL : all->shelves[to]; }

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

static void feed_later(struct feed *f) { loop_flush_later(f->shelf->loop, &f->task); }

static void feed_on_head(struct tape_reader *r, const struct tape_head *head UNUSED) { feed_later(feed_of(r)); }
static size_t feed_on_bytes(struct tape_reader *r, const struct iovec *v UNUSED, int count UNUSED, bool last UNUSED) {
    feed_later(feed_of(r));
    return 0; // taken when they are passed on
}
// Also when it seems to be outrun: all is taken before the turn ends.
static void feed_on_end(struct tape_reader *r, const struct tape_why *why UNUSED) { feed_later(feed_of(r)); }
static const struct tape_reader_events feed_events = {feed_on_head, feed_on_bytes, feed_on_end};

static void tell_head(struct feed *f, struct news *n) {
    const struct tape *t = f->reader.tape;
    if (!t->has_head || f->has_head_sent) {
        return;
    }
    f->has_head_sent = true;
    n->has_head = true;
    n->head = tape_head(t);
    n->fields = xmalloc(fields_packed_size(&n->head.fields));
    fields_pack(&n->head.fields, n->fields);
    n->head.fields.v = NULL; // the tape's
}

static void tell_marks(struct feed *f, struct news *n, uint64_t from) {
    const struct tape_marks *marks = &f->reader.tape->record->marks;
    if (n->marks_count) {
        memcpy(n->marks, marks->v + (from - marks->gone), n->marks_count * sizeof *n->marks);
    }
    n->marks_gone = from;
    f->marks_sent = from + n->marks_count;
    n->marks_lost = marks->lost && f->marks_sent == marks->gone + marks->count;
}

static struct news *new_news(struct feed *f) {
    const struct tape *t = f->reader.tape;
    uint64_t from = MAX(f->marks_sent, t->record->marks.gone);
    size_t marks = MIN((size_t)(tape_marks(t) - from), (size_t)MARKS);
    struct news *n = xcalloc(1, sizeof *n + marks * sizeof *n->marks);
    n->all = f->shelf->all;
    n->to = f->to;
    n->id = f->id;
    n->serial = f->serial;
    n->found = SHELF_HERE;
    n->first = !f->told;
    n->name = n->first ? shelf_id(f->shelf, t) : n->name;
    n->tenant = f->tenant;
    n->start = f->reader.position;
    n->created_s = t->record->created_s;
    n->keep =
        MAX(t->record->keep, t->written - n->start); // who reads from the start is not outrun by what was there already
    n->marks_count = marks;
    tell_marks(f, n, from);
    tell_head(f, n);
    f->told = true;
    return n;
}

static void deliver_news(struct message *message);

// Passes on what is new, in as many messages as it takes; the end with the last one.
static void feed_run(struct task *task) {
    struct feed *f = container_of(task, struct feed, task);
    const struct tape *t = f->reader.tape;
    bool more = !f->shelf->all->closing;
    while (more) {
        struct news *n = new_news(f);
        bool all_marks = f->marks_sent == tape_marks(t); // before their bytes: they go with those
        n->part_count = all_marks ? tape_take(&f->reader, n->parts, PARTS) : 0;
        more = !all_marks || f->reader.position < t->written;
        if (!more && !tape_running(t)) {
            n->why = t->why;
            n->problem = t->why.problem ? str_dup(str_c(t->why.problem)) : NULL;
        }
        n->message.deliver = deliver_news;
        post(n->all, n->to, &n->message);
    }
    if (!tape_running(t)) {
        feed_end(f);
    }
}

void feeds_end(struct tape_kept *kept) {
    list_each(node, &kept->feeds) { feed_run(&container_of(node, struct feed, node)->task); }
}

static void refuse_news(const struct to_feed *ask, enum shelf_find found) {
    struct news *n = xcalloc(1, sizeof *n);
    n->all = ask->all;
    n->to = ask->from;
    n->id = ask->id;
    n->serial = ask->serial;
    n->found = found;
    n->message.deliver = deliver_news;
    post(n->all, n->to, &n->message);
}

static struct tape *find_here(const struct shelf *shelf, const struct to_feed *m, enum shelf_find *found) {
    struct tape *t = NULL;
    unsigned where;
    *found = shelf_find(shelf, str_c(m->id.text), &t, &where);
    if (*found == SHELF_HERE && !tape_kept(t)) {
        *found = SHELF_GONE; // its bytes are
    }
    return *found == SHELF_HERE ? t : NULL;
}

static void begin_feed(struct shelf *shelf, const struct to_feed *ask, struct tape *t) {
    struct feed *f = xcalloc(1, sizeof *f);
    f->shelf = shelf;
    f->task.run = feed_run;
    f->id = ask->id;
    f->serial = ask->serial;
    f->to = ask->from;
    f->tenant = t->record->kept->tenant;
    shelf->feeds++;
    shelf_joined(t);
    list_push_back(&t->record->kept->feeds, &f->node);
    tape_open(t, &f->reader, &feed_events, tape_start(t));
    feed_later(f);
}

static void deliver_ask(struct message *message) {
    struct to_feed *ask = container_of(message, struct to_feed, message);
    struct shelf *shelf = arrived(ask->all, ask->to);
    enum shelf_find found;
    struct tape *t = shelf ? find_here(shelf, ask, &found) : NULL;
    if (t) {
        begin_feed(shelf, ask, t);
    } else if (shelf) {
        refuse_news(ask, found);
    }
    free(ask);
}

static void deliver_leave(struct message *message) {
    struct to_feed *leave = container_of(message, struct to_feed, message);
    struct shelf *shelf = arrived(leave->all, leave->to);
    enum shelf_find found;
    struct tape *t = shelf ? find_here(shelf, leave, &found) : NULL;
    struct feed *of = NULL;
    if (t) {
        list_each(node, &t->record->kept->feeds) {
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
    struct shelf *shelf = arrived(stop->all, stop->to);
    enum shelf_find found;
    struct tape *t = shelf ? find_here(shelf, stop, &found) : NULL;
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
    if (all->closing) {
        return;
    }
    struct to_feed *to = xcalloc(1, sizeof *to + strlen(problem) + 1);
    to->message.deliver = deliver;
    to->all = all;
    to->to = m->where;
    to->id = m->id;
    to->serial = m->serial;
    to->from = m->shelf->number;
    if (why) {
        to->why = *why;
        memcpy(to->problem, problem, strlen(problem) + 1);
        to->why.problem = why->problem ? to->problem : NULL;
    }
    post(all, to->to, &to->message);
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

// It goes with the tape's end, and when nobody wants it.
static void mirror_settle(struct mirror *m) {
    bool wanted = !list_empty(&m->waits) || (m->tape && !list_empty(&m->tape->readers));
    bool over = m->tape && !tape_running(m->tape);
    if (m->busy || (wanted && !over)) {
        return;
    }
    if (m->fed) {
        send_to_feed(m, deliver_leave, NULL);
    }
    mirror_end(m);
}

static void mirror_on_abandoned(struct tape *t) { mirror_settle(t->writer); }

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

static struct mirror_wait *wait_of(struct list *node) { return container_of(node, struct mirror_wait, node); }

// Takes those off who wait now: they may come to wait again meanwhile.
static void take_waits(struct mirror *m, struct list *waits) {
    list_move_all(waits, &m->waits);
    list_each(node, waits) { wait_of(node)->mirror = NULL; }
}

static void give_tape(struct mirror *m, struct mirror_wait *wait) {
    bool allowed = !wait->tenant || digest_equal(wait->tenant, &m->tenant);
    wait->on_tape(wait, allowed ? SHELF_HERE : SHELF_UNKNOWN, allowed ? m->tape : NULL);
}

static void begin_mirror(struct mirror *m, const struct news *n) {
    m->tenant = n->tenant;
    m->tape = tape_create(&mirror_events, m);
    tape_keep(m->tape, n->keep, n->created_s);
    m->tape->record->id = xmalloc(sizeof n->name);
    *m->tape->record->id = n->name;
    m->tape->record->marks.gone = n->marks_gone;
    m->tape->written = n->start;
}

static void take_head(struct tape *t, const struct news *n) {
    unsigned count = n->head.fields.n;
    struct field *room = xcalloc(MAX(count, 1u), sizeof *room);
    struct tape_head head = n->head;
    head.fields = (struct fields){room, 0, count};
    const char *end = fields_unpack(&head.fields, n->fields);
    assert(end);
    (void)end;
    tape_put_head(t, &head);
    free(room);
}

static void append_news(struct tape *t, struct news *n) {
    if (n->has_head && tape_running(t)) {
        take_head(t, n);
    }
    for (size_t i = 0; i < n->marks_count; i++) {
        tape_mark(t, n->marks[i]);
    }
    t->record->marks.lost = t->record->marks.lost || n->marks_lost;
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

// Readers come, leave and wait meanwhile.
static void take_news(struct mirror *m, struct news *n) {
    struct list waits;
    struct list *node;
    m->busy = true;
    m->fed = n->why.end == TAPE_RUNNING;
    if (n->first) {
        begin_mirror(m, n);
    }
    append_news(m->tape, n);
    take_waits(m, &waits);
    while ((node = list_pop_front(&waits))) {
        give_tape(m, wait_of(node));
    }
    m->busy = false;
    mirror_settle(m);
}

static void take_refusal(struct mirror *m, enum shelf_find found) {
    struct list waits;
    struct list *node;
    take_waits(m, &waits);
    mirror_end(m); // who asks again asks anew
    while ((node = list_pop_front(&waits))) {
        struct mirror_wait *wait = wait_of(node);
        wait->on_tape(wait, found, NULL);
    }
}

static void deliver_news(struct message *message) {
    struct news *n = container_of(message, struct news, message);
    struct shelf *shelf = arrived(n->all, n->to);
    struct mirror *m = shelf ? find_mirror(shelf, &n->id) : NULL;
    if (m && m->serial == n->serial) {
        if (n->found == SHELF_HERE) {
            take_news(m, n);
        } else {
            take_refusal(m, n->found);
        }
    }
    free_news(n);
}

static void end_one(void *context UNUSED, struct map_node *node) {
    mirror_end(container_of(node, struct mirror, node));
}

static struct mirror *new_mirror(struct shelf *shelf, const struct tape_id *id, unsigned where) {
    struct mirror *m = xcalloc(1, sizeof *m);
    m->shelf = shelf;
    m->id = *id;
    m->serial = ++shelf->mirror_serial;
    m->where = where;
    m->fed = true;
    list_init(&m->waits);
    map_insert(&shelf->mirrors, &m->node, hash_of(id));
    send_to_feed(m, deliver_ask, NULL);
    return m;
}

static void await_news(struct mirror *m, struct mirror_wait *wait) {
    wait->mirror = m;
    list_push_back(&m->waits, &wait->node);
}

void mirror_ask(struct shelf *shelf, const struct tape_id *id, unsigned where, struct mirror_wait *wait) {
    struct mirror *m = find_mirror(shelf, id);
    m = m ? m : new_mirror(shelf, id, where);
    if (m->tape) {
        give_tape(m, wait);
    } else {
        await_news(m, wait);
    }
}

bool mirror_wait_on(struct tape *t, struct mirror_wait *wait) {
    if (t->events != &mirror_events || !tape_running(t)) {
        return false;
    }
    await_news(t->writer, wait);
    return true;
}

void mirrors_finish(struct shelf *shelf) {
    map_each(&shelf->mirrors, end_one, NULL);
    map_finish(&shelf->mirrors);
}

void mirror_wait_end(struct mirror_wait *wait) {
    struct mirror *m = wait->mirror;
    list_unlink(&wait->node);
    wait->mirror = NULL;
    if (m) {
        mirror_settle(m);
    }
}
