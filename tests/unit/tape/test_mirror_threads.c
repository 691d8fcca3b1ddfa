// SPDX-License-Identifier: MIT
// Workers on threads of their own, whose requests claim keys, write tapes, read each other's, leave and stop them at
// random. What a key's answer is follows from the key, so that every byte that anybody is given can be checked; nothing
// is asserted of who comes first. Under TSan, see make test-threads.
#include <pthread.h>

#include "support.h"
#include "tape/errand.h"
#include "tape/mirror.h"

enum {
    WORKERS = 3,
    REQUESTS = 1500, // of each worker
    KEYS = 1200,
    AT_ONCE = 24, // requests of a worker
    ANSWER_MAX = 60000,
    TAPE_KEEP = 30000, // and so some are outrun, some come too late
    TOTAL = 2 << 20,
    ATTEMPTS_MAX = 3,
};

#define must(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            abort(); /* cmocka fails on its own thread only */                                                         \
        }                                                                                                              \
    } while (0)

struct crew;

struct worker {
    struct crew *crew;
    struct loop loop;
    struct shelf shelf;
    pthread_t thread;
    struct task step;
    struct message stop;
    struct list requests, calls;
    unsigned begun, running, whole;
    bool said_done;
    uint64_t seed;
};

struct crew {
    struct shelves *all;
    struct worker workers[WORKERS];
    bool early; // stops with everything in flight
    atomic_uint done;
};

static size_t below(struct worker *w, size_t n) {
    w->seed ^= w->seed >> 12;
    w->seed ^= w->seed << 25;
    w->seed ^= w->seed >> 27;
    return (size_t)((w->seed * 2685821657736338717u) >> 33) % n;
}

static uint64_t answer_len(unsigned key) { return 100 + key * 7919u % ANSWER_MAX; }
static const char *answer_of(unsigned key) { return pattern + key * 1009u % (PATTERN - ANSWER_MAX - 100); }

static struct digest digest_of(unsigned key) { return digest_sha256(str_from((const char *)&key, sizeof key)); }
static const struct digest tenant = {{4, 2}};

// ---- calls

struct call {
    struct list node;
    struct worker *worker;
    struct tape *tape; // NULL: ended
    unsigned key;
};

static void call_end(struct call *c, const struct tape_why *why) {
    struct tape *t = c->tape;
    c->tape = NULL;
    t->events = NULL;
    if (why) {
        tape_finish(t, why);
    }
    shelf_ended(&c->worker->shelf, t);
    tape_unref(t);
}

static void on_room(struct tape *t) { must(tape_running(t)); }

static void on_abandoned(struct tape *t) {
    if (!shelf_goes_on(t)) {
        call_end(t->writer, &(struct tape_why){TAPE_CANCELLED, OK, 0, 0, "the client left"});
    }
}

static void on_stop(struct tape *t, const struct tape_why *why) { call_end(t->writer, why); }

static const struct tape_events call_events = {on_room, on_abandoned, on_stop};

static void begin_call(struct worker *w, struct tape *take_tape, unsigned key) {
    struct call *c = xcalloc(1, sizeof *c);
    c->worker = w;
    c->tape = take_tape;
    c->key = key;
    take_tape->events = &call_events;
    take_tape->writer = c;
    list_push_back(&w->calls, &c->node);
    tape_put_head(take_tape, &(struct tape_head){.status = 200, .body_len = -1});
}

static void write_on(struct call *c) {
    uint64_t from = c->tape->written;
    size_t some = below(c->worker, 8000);
    size_t n = MIN((size_t)(answer_len(c->key) - from), some);
    bool last = from + n == answer_len(c->key);
    if (tape_full(c->tape)) {
        return;
    }
    tape_mark(c->tape, from + n);
    struct tape *t = tape_ref(c->tape);
    tape_append(t, str_from(answer_of(c->key) + from, n), last);
    if (c->tape && last) {
        call_end(c, NULL);
    }
    tape_unref(t);
}

// ---- requests

struct request {
    struct list node;
    struct worker *worker;
    struct tape_reader reader;
    struct mirror_wait wait;
    struct tape_id id;
    struct digest digest;
    unsigned key, attempts;
    uint64_t position;
    uint64_t mark; // reading begins behind it; UINT64_MAX: at the position
    bool over, whole;
};

static void try_request(struct request *r);

static void on_head(struct tape_reader *reader, const struct tape_head *head) {
    must(head->status == 200);
    must(!container_of(reader, struct request, reader)->over);
}

static size_t on_bytes(struct tape_reader *reader, const struct iovec *v, int count, bool last) {
    struct request *r = container_of(reader, struct request, reader);
    struct worker *w = r->worker;
    size_t budget = below(w, 3) ? SIZE_MAX : below(w, 5000);
    uint64_t position = reader->position;
    must(reader->has_head && !r->over);
    for (int i = 0; i < count && budget; i++) {
        size_t n = MIN(v[i].iov_len, budget);
        must(position + n <= answer_len(r->key));
        must(memcmp(v[i].iov_base, answer_of(r->key) + position, n) == 0);
        position += n;
        budget -= budget == SIZE_MAX ? 0 : n;
        last = last && n == v[i].iov_len && (budget || i + 1 == count);
    }
    last = last && (budget || position == answer_len(r->key));
    if (last) {
        must(position == answer_len(r->key)); // never looks complete when it is not
        r->over = r->whole = true;
    }
    size_t taken = (size_t)(position - reader->position);
    if (r->over || below(w, 200) == 0) {
        r->over = true;
        tape_leave(reader);
    }
    return taken;
}

static void on_end(struct tape_reader *reader, const struct tape_why *why) {
    struct request *r = container_of(reader, struct request, reader);
    must(!r->over);
    must(why->error == ERR_FULL || why->end == TAPE_CANCELLED || why->end == TAPE_CUT);
    r->over = true;
    tape_leave(reader);
}

static const struct tape_reader_events reader_events = {on_head, on_bytes, on_end};

static void follow(struct request *r, struct tape *t) {
    shelf_joined(t);
    tape_open(t, &r->reader, &reader_events, r->position);
    tape_read(&r->reader);
}

static void attach(struct request *r, struct tape *t) {
    enum err e = r->mark == UINT64_MAX ? OK : tape_find_mark(t, r->mark, &r->position);
    bool later = e == ERR_AGAIN || (e == OK && r->position > t->written);
    if (later && mirror_wait_on(t, &r->wait)) {
        return;
    }
    if (e == OK && tape_has(t, r->position)) {
        follow(r, t);
    } else {
        r->over = true; // dropped, or not there yet
    }
}

static void try_again(struct request *r) {
    if (r->attempts++ < ATTEMPTS_MAX) {
        try_request(r);
    } else {
        r->over = true;
    }
}

static void on_tape(struct mirror_wait *wait, enum shelf_find found, struct tape *t) {
    struct request *r = container_of(wait, struct request, wait);
    must(!r->over);
    must(found == SHELF_HERE || found == SHELF_GONE);
    if (found == SHELF_HERE) {
        attach(r, t);
    } else {
        try_again(r);
    }
}

static void find(struct request *r) {
    struct tape *t = NULL;
    unsigned where = 0;
    switch (shelf_find(&r->worker->shelf, str_c(r->id.text), &t, &where)) {
    case SHELF_HERE: attach(r, t); break;
    case SHELF_ELSEWHERE: mirror_ask(&r->worker->shelf, &r->id, where, &r->wait); break;
    case SHELF_GONE: try_again(r); break;
    case SHELF_UNKNOWN: must(false);
    }
}

// The key's tape, or a new one that it leads to then.
static void try_request(struct request *r) {
    static const enum tape_disconnect policies[] = {TAPE_ENDS, TAPE_WAITS, TAPE_GOES_ON};
    struct worker *w = r->worker;
    struct tape *t = tape_create(NULL, NULL);
    shelf_add(&w->shelf, t, 0);
    struct tape_kept *kept = shelf_keep(&w->shelf, t, TAPE_KEEP, &tenant);
    kept->disconnect = policies[below(w, 3)];
    kept->wait_ms = 1;
    kept->brief = below(w, 8) == 0;
    if (shelf_claim(kept, &r->digest, NULL, &r->id) == CLAIM_NEW) {
        tape_ref(t);
        begin_call(w, t, r->key);
        r->position = 0;
        follow(r, t);
        tape_unref(t);
    } else {
        shelf_withdraw(&w->shelf, t);
        tape_unref(t);
        find(r);
    }
}

static void begin_request(struct worker *w) {
    struct request *r = xcalloc(1, sizeof *r);
    r->worker = w;
    r->key = (w->begun * KEYS / REQUESTS + (unsigned)below(w, 20)) % KEYS; // about the same ones as the others'
    r->digest = digest_of(r->key);
    r->wait.tenant = &tenant;
    r->wait.on_tape = on_tape;
    r->position = 0;
    r->mark = UINT64_MAX;
    list_push_back(&w->requests, &r->node);
    w->begun++;
    w->running++;
    try_request(r);
    if (!r->over && r->wait.mirror && below(w, 4) == 0) { // the answer comes later: another position
        r->position = below(w, ANSWER_MAX);
        r->mark = below(w, 2) ? below(w, 12) : UINT64_MAX;
    }
}

static void end_request(struct request *r) {
    struct worker *w = r->worker;
    mirror_wait_end(&r->wait);
    tape_leave(&r->reader);
    list_unlink(&r->node);
    w->running--;
    w->whole += r->whole;
    free(r);
}

// ---- errands

struct question {
    struct errand errand;
    unsigned key;
};

static void look(struct errand *e, struct shelf *there UNUSED, struct tape *t) {
    must(t->written <= answer_len(container_of(e, struct question, errand)->key));
}

static void free_question(struct errand *e) { free(container_of(e, struct question, errand)); }

static void ask(const struct request *r) {
    struct question *q = xcalloc(1, sizeof *q);
    q->errand =
        (struct errand){.id = r->id, .tenant = tenant, .run = look, .on_back = free_question, .destroy = free_question};
    q->key = r->key;
    errand_send(&r->worker->shelf, &q->errand);
}

// ---- turns

static void move_request(struct request *r) {
    static const struct tape_why stopped = {TAPE_CANCELLED, OK, 0, 0, "somebody stopped it"};
    struct worker *w = r->worker;
    size_t what = below(w, 120);
    if (what == 0) {
        r->over = true;
    } else if (what == 1 && r->reader.tape) {
        struct tape *t = tape_ref(r->reader.tape);
        tape_stop(t, &stopped);
        tape_unref(t);
    } else if (what == 2 && r->id.text[0]) {
        ask(r);
    } else if (r->reader.tape && !r->over) {
        tape_read(&r->reader);
    }
    if (r->over) {
        end_request(r);
    }
}

static void say_done(struct worker *w) {
    struct crew *crew = w->crew;
    if (w->said_done) {
        return;
    }
    w->said_done = true;
    if (atomic_fetch_add(&crew->done, 1) + 1 == WORKERS) {
        for (unsigned i = 0; i < WORKERS; i++) {
            loop_post(&crew->workers[i].loop, &crew->workers[i].stop);
        }
    }
}

static void step(struct task *task) {
    struct worker *w = container_of(task, struct worker, step);
    unsigned wanted = w->crew->early ? REQUESTS / 4 : REQUESTS;
    for (unsigned i = 0; i < 2 && w->begun < wanted && w->running < AT_ONCE; i++) {
        begin_request(w);
    }
    list_each(node, &w->calls) {
        struct call *c = container_of(node, struct call, node);
        if (c->tape && below(w, 2)) {
            write_on(c);
        }
    }
    list_each(node, &w->calls) {
        struct call *c = container_of(node, struct call, node);
        if (!c->tape) {
            list_unlink(node);
            free(c);
        }
    }
    list_each(node, &w->requests) { move_request(container_of(node, struct request, node)); }
    if (w->begun == wanted && (w->crew->early || (w->running == 0 && list_empty(&w->calls)))) {
        say_done(w);
    }
    loop_defer(&w->loop, &w->step);
}

static void deliver_stop(struct message *m) { loop_stop(&container_of(m, struct worker, stop)->loop); }

static void *run(void *arg) {
    struct worker *w = arg;
    loop_run(&w->loop);
    return NULL;
}

// ---- life

static void worker_init(struct crew *crew, unsigned i, uint64_t seed) {
    struct worker *w = &crew->workers[i];
    *w = (struct worker){.crew = crew, .seed = seed, .step.run = step, .stop.deliver = deliver_stop};
    list_init(&w->requests);
    list_init(&w->calls);
    check_ok(loop_init(&w->loop, &(struct loop_options){.clock = NULL}));
    shelf_init(&w->shelf, crew->all, i, &w->loop);
    loop_defer(&w->loop, &w->step);
}

static void worker_finish(struct worker *w) {
    task_cancel(&w->step);
    list_each(node, &w->requests) { end_request(container_of(node, struct request, node)); }
    shelf_stop_all(&w->shelf, &cut_off);
    check_int(w->shelf.running, 0);
    list_each(node, &w->calls) {
        check(!container_of(node, struct call, node)->tape);
        list_unlink(node);
        free(container_of(node, struct call, node));
    }
    shelf_finish(&w->shelf);
    loop_finish(&w->loop);
}

static void run_crew(bool early, uint64_t seed) {
    struct crew *crew = xcalloc(1, sizeof *crew);
    unsigned whole = 0;
    crew->early = early;
    crew->all = shelves_create(&(struct shelves_options){.count = WORKERS, .keep_ms = 20, .total_bytes = TOTAL});
    for (unsigned i = 0; i < WORKERS; i++) {
        worker_init(crew, i, seed + i);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        check_int(pthread_create(&crew->workers[i].thread, NULL, run, &crew->workers[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(crew->workers[i].thread, NULL);
    }
    for (unsigned i = 0; i < WORKERS && !early; i++) {
        check_int(crew->workers[i].begun, REQUESTS);
    }
    shelves_close(crew->all);
    for (unsigned i = 0; i < WORKERS; i++) {
        worker_finish(&crew->workers[(i + seed) % WORKERS]);
        whole += crew->workers[(i + seed) % WORKERS].whole;
    }
    check_int(crew->all->finished_bytes, 0);
    check(early || whole > WORKERS * REQUESTS / 10);
    shelves_destroy(crew->all);
    free(crew);
}

static void workers_read_each_others_tapes(void **state UNUSED) { run_crew(false, 11); }

static void workers_may_stop_with_everything_in_flight(void **state UNUSED) {
    for (unsigned i = 0; i < 6; i++) {
        run_crew(true, 100 + 10 * i);
    }
}

TAPE_TESTS(TEST(workers_read_each_others_tapes), TEST(workers_may_stop_with_everything_in_flight))
