// SPDX-License-Identifier: MIT
// A user is a plain HTTP client of the lab, with a connection of his own: his time runs from dialling to the last byte
// of his answer. What the answers say of seats makes the picture.
#include "lab/run.h"

#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>

#include "base/mem.h"
#include "http/client.h"
#include "llm/json.h"
#include "net/listen.h"
#include "net/tcp.h"
#include "work/executor.h"

enum {
    EXECUTOR_THREADS = 10,
    POLL_MS = 100,
    START_MS = 20, // rows begin that far apart: their bursts are not each other's
    CONNECT_MS = 30 * 1000,
    ANSWER_CAP = 256 * 1024,
};

struct row_run;
struct user {
    struct row_run *run;
    struct timer start;
    struct xchg x;
    struct buf answer;
    int status;
    bool over;
    uint64_t began_ns, ended_ns;
};

struct row_run {
    struct lab_run *all;
    const struct lab_row *row;
    struct lab *lab;
    struct listener listener;
    struct origin origin;
    struct user *users;
    unsigned open;                          // users who have no answer yet
    uint64_t service_ms, apart_ms, poll_ms; // scaled
    char host[ADDRESS_TEXT];
    struct lab_result *result; // in the run's
};

struct lab_run {
    struct loop *loop;
    struct lab_run_options options;
    struct http_client client;
    struct dns *dns;
    struct row_run *rows;
    struct lab_result *results; // beside them
    size_t count;
    size_t open;
};

static uint64_t now_ns(const struct lab_run *run) { return run->loop->clock->now_ns(run->loop->clock); }

// ---- prediction

static struct waits predict(const struct row_run *r) {
    const struct lab_row *row = r->row;
    size_t n = (size_t)row->users * row->calls;
    struct sitting *v = xcalloc(n, sizeof *v);
    struct seats seats = {row->seats, r->service_ms * 1000000, row->polled ? r->poll_ms * 1000000 : 0};
    for (size_t i = 0; i < n; i++) {
        v[i].user = (unsigned)(i / row->calls);
        v[i].arrived_ns = v[i].user * r->apart_ms * 1000000;
    }
    seats_fill(&seats, v, n);
    struct waits w = waits_of(v, n);
    free(v);
    return w;
}

// ---- what the users saw

static struct waits measure(const struct row_run *r) {
    struct sitting *v = xcalloc(r->row->users, sizeof *v);
    for (unsigned i = 0; i < r->row->users; i++) {
        const struct user *u = &r->users[i];
        v[i] = (struct sitting){i, 0, SITTING_NOBODY, u->began_ns, u->began_ns, u->ended_ns};
    }
    struct waits w = waits_of(v, r->row->users);
    free(v);
    return w;
}

static double off_by(uint64_t measured, uint64_t predicted) {
    return fabs((double)measured - (double)predicted) / (double)predicted;
}

static bool read_ns(const struct json_value *call, const char *name, uint64_t start_ns, uint64_t *ns) {
    double n = 0;
    if (!json_number(json_member(call, name), &n) || n < (double)start_ns) {
        return false;
    }
    *ns = (uint64_t)n - start_ns;
    return true;
}

// "default-13" is seat 13; a guard is one seat.
static unsigned seat_number(struct str seat) {
    uint64_t n = 0;
    return parse_u64(str_skip(seat, str_find(seat, '-') + 1), &n) == OK ? (unsigned)n : 0;
}

// Users are named by their numbers, from 1.
static bool read_call(const struct json_value *call, unsigned user, uint64_t start_ns, struct sitting *s,
                      unsigned *waited_for) {
    uint64_t n = 0;
    *s = (struct sitting){.user = user, .seat = seat_number(json_string(json_member(call, "seat")))};
    *waited_for = parse_u64(json_string(json_member(call, "waited_for")), &n) == OK ? (unsigned)n : 0;
    return read_ns(call, "arrived_ns", start_ns, &s->arrived_ns) &&
           read_ns(call, "seated_ns", start_ns, &s->seated_ns) && read_ns(call, "done_ns", start_ns, &s->done_ns);
}

static bool read_answer(struct row_run *r, unsigned i, unsigned *waited_for) {
    struct user *u = &r->users[i];
    struct json *json = json_open(buf_str(&u->answer), 12 * (size_t)ANSWER_CAP);
    const struct json_value *root = json ? json_root(json) : NULL;
    const struct json_value *calls = json_member(root, "calls"); // not there where there is only one
    bool fine = u->over && u->status == 200 && json_length(calls) == (r->row->calls > 1 ? r->row->calls : 0);
    for (unsigned c = 0; fine && c < r->row->calls; c++) {
        size_t at = (size_t)i * r->row->calls + c;
        fine = read_call(calls ? json_item(calls, c) : root, i, r->users[0].began_ns, &r->result->sittings[at],
                         &waited_for[at]);
    }
    json_close(json);
    return fine;
}

// On the loop nobody has a seat: each gets the first that is free in the picture.
static void give_seats(struct sitting *v, size_t n) {
    uint64_t *free_ns = xcalloc(n, sizeof *free_ns);
    for (size_t i = 0; i < n; i++) {
        unsigned at = 0;
        while (free_ns[at] > v[i].seated_ns) {
            at++;
        }
        v[i].seat = at;
        free_ns[at] = v[i].done_ns;
    }
    free(free_ns);
}

// Who waited for a user waited for his last call on that seat before.
static void find_afters(struct sitting *v, size_t n, const unsigned *waited_for) {
    for (size_t i = 0; i < n; i++) {
        v[i].after = SITTING_NOBODY;
        for (size_t j = 0; waited_for[i] && j < n; j++) {
            bool before = v[j].user + 1 == waited_for[i] && v[j].seat == v[i].seat && v[j].done_ns <= v[i].seated_ns;
            if (before && (v[i].after == SITTING_NOBODY || v[j].done_ns > v[v[i].after].done_ns)) {
                v[i].after = (uint32_t)j;
            }
        }
    }
}

static void judge(struct row_run *r) {
    struct lab_result *result = r->result;
    result->count = (size_t)r->row->users * r->row->calls;
    result->sittings = xcalloc(result->count, sizeof *result->sittings);
    unsigned *waited_for = xcalloc(result->count, sizeof *waited_for);
    for (unsigned i = 0; i < r->row->users; i++) {
        if (!read_answer(r, i, waited_for)) {
            struct str said = str_first(buf_str(&r->users[i].answer), 80);
            snprintf(result->problem, sizeof result->problem, "user %u: %s %d %.*s", i + 1,
                     r->users[i].over ? "answered" : "no answer", r->users[i].status, STR_ARG(said));
            result->count = 0;
            break;
        }
    }
    find_afters(result->sittings, result->count, waited_for);
    free(waited_for);
    if (r->row->seats == SEATS_UNLIMITED) {
        give_seats(result->sittings, result->count);
    }
    result->measured = measure(r);
    struct waits seen = waits_of(result->sittings, result->count); // what only the lab can tell
    result->measured.waited = seen.waited;
    result->measured.longest = seen.longest;
    result->measured.longest_ns = seen.longest_ns;
    result->measured.at_once = seen.at_once;
    result->off = MAX(off_by(result->measured.wall_ns, result->predicted.wall_ns),
                      MAX(off_by(result->measured.mean_ns, result->predicted.mean_ns),
                          off_by(result->measured.max_ns, result->predicted.max_ns)));
}

// ---- a user

static void end_user(struct user *u) {
    struct row_run *r = u->run;
    u->over = true;
    u->ended_ns = now_ns(r->all);
    if (--r->open) {
        return;
    }
    judge(r);
    if (r->all->options.on_row) {
        r->all->options.on_row(r->all->options.context, r->result);
    }
    if (--r->all->open == 0) {
        loop_stop(r->all->loop);
    }
}

static void send_request(struct user *u) {
    char target[200];
    struct row_run *r = u->run;
    int n = snprintf(target, sizeof target, "%s?user_id=%u&calls=%u&seconds=%.3f", r->row->path,
                     (unsigned)(u - r->users) + 1, r->row->calls, (double)r->service_ms / 1000);
    xchg_send_head(&u->x, &(struct head){
                              .method = METHOD_POST,
                              .method_name = str_c(method_name(METHOD_POST)),
                              .target = str_from(target, (size_t)n),
                              .authority = r->origin.authority,
                              .body_len = 0,
                          });
    size_t none = xchg_send(&u->x, STR(""), true);
    (void)none;
}

static void on_head(struct xchg *x, struct head *head) { container_of(x, struct user, x)->status = head->status; }

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct user *u = container_of(x, struct user, x);
    if (buf_str_append(&u->answer, bytes) != OK) {
        xchg_abort(x);
        end_user(u);
    } else if (end) {
        end_user(u);
    }
}

static void on_drain(struct xchg *x) {
    struct user *u = container_of(x, struct user, x);
    if (u->status == 0) {
        send_request(u);
    }
}

static void on_fail(struct xchg *x, enum err e UNUSED, const char *problem) {
    struct user *u = container_of(x, struct user, x);
    u->status = 0;
    buf_clear(&u->answer);
    if (buf_str_append(&u->answer, str_c(problem)) != OK) {
        buf_clear(&u->answer); // it failed all the same
    }
    end_user(u);
}

static const struct xchg_events user_events = {on_head, on_body, on_drain, on_fail};

static void on_start(struct timer *timer) {
    struct user *u = container_of(timer, struct user, start);
    u->x = (struct xchg){.events = &user_events};
    u->began_ns = now_ns(u->run->all);
    if (client_start(&u->run->origin, &u->x, true) == OK) {
        send_request(u);
    }
}

// ---- a row

static void on_accept(struct listener *l, struct conn *c) {
    lab_accept(l->owner, c);
    tcp_watch(c);
}

static uint64_t scaled(uint64_t ms, double scale) {
    uint64_t n = (uint64_t)llround((double)ms * scale);
    return ms && !n ? 1 : n;
}

static enum err open_row(struct row_run *r) {
    struct lab_run *run = r->all;
    struct address address;
    struct lab_options options = {
        .upstream = run->options.upstream,
        .default_threads = executor_default_threads(r->row->cpus),
        .executor_threads = EXECUTOR_THREADS,
        .poll_ms = r->poll_ms,
    };
    enum err e = address_parse(STR("127.0.0.1"), 0, &address);
    e = e == OK ? listen_claim(&address) : e;
    r->lab = e == OK ? lab_create(run->loop, &options) : NULL;
    if (!r->lab) {
        return e == OK ? ERR_SYS : e;
    }
    address_format(&address, r->host);
    r->origin.target = (struct dial_target){.host = STR("127.0.0.1"), .timeout_ms = CONNECT_MS};
    r->origin.target.port = ntohs(address.v4.sin_port);
    r->origin.authority = str_c(r->host);
    origin_init(&r->origin, &run->client);
    return listener_open(&r->listener, run->loop, &address, on_accept, r->lab);
}

static void start_row(struct row_run *r, uint64_t delay_ms) {
    r->open = r->row->users;
    r->users = xcalloc(r->row->users, sizeof *r->users);
    for (unsigned i = 0; i < r->row->users; i++) {
        struct user *u = &r->users[i];
        u->run = r;
        u->start.on_timer = on_start;
        buf_init(&u->answer, ANSWER_CAP);
        timer_set(r->all->loop, &u->start, delay_ms + i * r->apart_ms);
    }
}

static void close_row(struct row_run *r) {
    for (unsigned i = 0; r->users && i < r->row->users; i++) {
        timer_clear(&r->users[i].start);
    }
    if (r->lab) {
        origin_finish(&r->origin);
        listener_close(&r->listener);
        lab_destroy(r->lab);
    }
    if (r->open) {
        snprintf(r->result->problem, sizeof r->result->problem, "stopped before all users had their answers");
    }
    for (unsigned i = 0; r->users && i < r->row->users; i++) {
        buf_finish(&r->users[i].answer);
    }
    free(r->users);
}

// ---- all of them

static void add_row(struct lab_run *run, const struct lab_row *row) {
    struct row_run *r = &run->rows[run->count];
    *r = (struct row_run){
        .all = run,
        .row = row,
        .listener.io.fd = -1,
        .service_ms = scaled(row->service_ms, run->options.scale),
        .apart_ms = scaled(row->apart_ms, run->options.scale),
        .poll_ms = scaled(POLL_MS, run->options.scale),
        .result = &run->results[run->count++],
    };
    *r->result = (struct lab_result){.row = row, .scale = run->options.scale};
    r->result->predicted = predict(r);
}

static void choose_rows(struct lab_run *run) {
    const struct lab_run_options *o = &run->options;
    size_t all = 0;
    while (lab_row_at(all)) {
        all++;
    }
    run->rows = xcalloc(all, sizeof *run->rows);
    run->results = xcalloc(all, sizeof *run->results);
    for (size_t i = 0; i < all; i++) {
        if (!o->wanted || o->wanted(o->context, lab_row_at(i))) {
            add_row(run, lab_row_at(i));
        }
    }
}

static void open_client(struct lab_run *run) {
    run->dns = dns_create(run->loop, NULL);
    run->client = (struct http_client){
        .loop = run->loop,
        .dns = run->dns,
        .limits = HTTP_LIMITS_DEFAULT,
        .idle_ms = 1,
    };
    http_client_init(&run->client);
}

static enum err perform(struct lab_run *run) {
    for (size_t i = 0; i < run->count; i++) {
        enum err e = open_row(&run->rows[i]);
        if (e != OK) {
            return e;
        }
    }
    run->open = run->count;
    for (size_t i = 0; i < run->count; i++) {
        start_row(&run->rows[i], i * START_MS);
    }
    if (run->count) {
        loop_run(run->loop);
    }
    return OK;
}

struct lab_run *lab_run(struct loop *loop, const struct lab_run_options *options) {
    struct lab_run *run = xcalloc(1, sizeof *run);
    run->loop = loop;
    run->options = *options;
    choose_rows(run);
    open_client(run);
    enum err e = perform(run);
    for (size_t i = 0; i < run->count; i++) {
        close_row(&run->rows[i]);
    }
    http_client_finish(&run->client);
    dns_destroy(run->dns);
    if (e != OK) {
        lab_run_destroy(run);
        return NULL;
    }
    return run;
}

void lab_run_destroy(struct lab_run *run) {
    if (!run) {
        return;
    }
    for (size_t i = 0; i < run->count; i++) {
        free(run->results[i].sittings);
    }
    free(run->results);
    free(run->rows);
    free(run);
}

const struct lab_result *lab_run_results(const struct lab_run *run, size_t *n) {
    *n = run->count;
    return run->results;
}
