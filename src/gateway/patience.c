// SPDX-License-Identifier: MIT
// Of an event stream comments stand only where no event is open, which the last bytes that were sent tell.
#include "gateway/patience.h"

#include "base/mem.h"
#include "gateway/steps.h"
#include "llm/reply.h"

enum { PLACE_MS = 1000, TOLD_MAX = 64 * 1024, COMMENT_MAX = 64, TAIL = 3 };

// What becomes of the tape's head, once thaw has said one of its own.
enum committed {
    COMMITTED_NOT,     // it goes on as it is
    COMMITTED_WAITING, // thaw has said 200, the upstream nothing yet
    COMMITTED_RELAYS,  // the upstream said 200 too
    COMMITTED_TELLS,   // it said something else: its answer is gathered
    COMMITTED_ENDS,    // that, or what went wrong, is told, and ends the answer
};

struct patience {
    struct request *request;
    struct timer timer;
    struct buf out;    // own words that are on their way; of COMMITTED_TELLS what is gathered
    size_t sent;       // of them
    uint64_t heard_ms; // when the client last heard something
    unsigned place, waiting;
    enum committed committed;
    bool lost;            // of COMMITTED_TELLS not all was gathered
    enum outcome outcome; // of COMMITTED_ENDS
    char tail[TAIL];      // the last bytes of the answer
};

static bool is_json(const struct request *r) { return r->blanks && !r->streams; }
static uint64_t now_ms(const struct request *r) { return r->worker->loop.now_ms; }
static uint64_t keepalive_ms(const struct request *r) {
    return r->streams || r->blanks ? r->setup->config->keepalive_ms : 0;
}

void patience_look(struct request *r) {
    const struct config *config = r->setup->config;
    const struct fields *fields = &r->head->fields;
    r->progress = str_eq(fields_value(fields, FIELD_X_THAW_PROGRESS), STR("1"));
    r->blanks = false;
    if (config->keepalive_ms && config->route_count) {
        const struct config_route *route = config_route_find(config, target_path(r->head->target));
        r->blanks = route && route->keep_alive;
    }
}

// ---- own words

// Sends what is left of them. False: no room.
static bool flush(struct request *r) {
    struct patience *p = r->patience;
    struct str rest = str_skip(buf_str(&p->out), p->sent);
    bool ends = p->committed == COMMITTED_ENDS;
    if (p->committed == COMMITTED_TELLS) {
        return true; // is being gathered
    }
    if (rest.len || ends) {
        p->sent += xchg_send(r->x, rest, ends);
        p->heard_ms = now_ms(r);
    }
    if (p->sent < buf_len(&p->out)) {
        return false;
    }
    buf_clear(&p->out);
    p->sent = 0;
    return true;
}

// Status 200, before the upstream has said it.
static void commit(struct request *r) {
    struct patience *p = r->patience;
    struct field room[8];
    struct fields fields = FIELDS(room);
    if (r->head_sent) {
        return;
    }
    worker_add(&fields, STR("Content-Type"), is_json(r) ? STR("application/json") : STR("text/event-stream"));
    p->committed = COMMITTED_WAITING;
    request_send_head(r, &(struct tape_head){200, fields, BODY_UNKNOWN});
}

static bool at_boundary(const struct patience *p) {
    const char *t = p->tail;
    bool line = t[2] == '\n' || t[2] == '\r' || t[2] == '\0';
    bool blank = t[1] == '\n' || t[1] == t[2] || (t[1] == '\r' && t[0] == '\n');
    return t[2] == '\0' || (line && blank);
}

static void say(struct request *r, struct str text) {
    struct patience *p = r->patience;
    if (buf_len(&p->out) || p->committed >= COMMITTED_TELLS || !at_boundary(p)) {
        return; // it hears of something soon
    }
    commit(r);
    if (buf_str_append(&p->out, text) == OK) {
        bool all = flush(r);
        (void)all; // else on_drain comes
    }
}

// A blank line behind a comment confuses OpenAI's Python SDK (3.52) once it has seen an id (stream.c).
static const char *comment_end(const struct request *r) { return r->reader.tape->record ? "\n" : "\n\n"; }

static void tell_place(struct request *r) {
    struct patience *p = r->patience;
    char line[COMMENT_MAX];
    unsigned place = 0;
    unsigned waiting = 0;
    if (!r->progress || !r->streams || !call_waits(r->reader.tape, &place, &waiting) ||
        (place == p->place && waiting == p->waiting)) {
        return;
    }
    p->place = place;
    p->waiting = waiting;
    int n = snprintf(line, sizeof line, ": queued %u of %u%s", place, waiting, comment_end(r));
    say(r, str_from(line, (size_t)n));
}

static void keep_alive(struct request *r) {
    char line[COMMENT_MAX];
    if (is_json(r)) {
        if (!r->reader.has_head) {
            say(r, STR(" "));
        }
        return;
    }
    int n = snprintf(line, sizeof line, ": keep-alive%s", comment_end(r));
    say(r, str_from(line, (size_t)n));
}

static void set_timer(struct request *r) {
    struct patience *p = r->patience;
    uint64_t quiet = now_ms(r) - p->heard_ms;
    uint64_t keep = keepalive_ms(r);
    uint64_t wait = keep > quiet ? keep - quiet : keep ? 1 : UINT64_MAX;
    if (r->progress && !r->reader.has_head) {
        wait = MIN(wait, (uint64_t)PLACE_MS);
    }
    if (wait != UINT64_MAX) {
        timer_set(&r->worker->loop, &p->timer, wait);
    }
}

static void on_timer(struct timer *timer) {
    struct patience *p = container_of(timer, struct patience, timer);
    struct request *r = p->request;
    if (!r->reader.tape) {
        return; // the end of the answer is on its way
    }
    tell_place(r);
    if (keepalive_ms(r) && now_ms(r) - p->heard_ms >= keepalive_ms(r)) {
        keep_alive(r);
        p->heard_ms = now_ms(r); // also where it could not be said: something else is on its way
    }
    if (r->patience) {
        set_timer(r);
    }
}

void patience_begin(struct request *r) {
    bool post = r->route && r->route->looked_at && !r->patience;
    if (!post || !(keepalive_ms(r) || (r->progress && r->streams))) {
        return;
    }
    r->patience = xcalloc(1, sizeof *r->patience);
    r->patience->request = r;
    r->patience->heard_ms = now_ms(r);
    r->patience->timer.on_timer = on_timer;
    buf_init(&r->patience->out, TOLD_MAX);
    tell_place(r);
    set_timer(r);
}

void patience_end(struct request *r) {
    if (r->patience) {
        timer_clear(&r->patience->timer);
        buf_finish(&r->patience->out);
        free(r->patience);
        r->patience = NULL;
    }
}

// ---- the upstream's words

static bool is_identity(const struct fields *fields) {
    struct str coding = fields_value(fields, FIELD_CONTENT_ENCODING);
    return !coding.ptr || str_ieq(coding, STR("identity"));
}

bool patience_head(struct request *r, const struct tape_head *head) {
    struct patience *p = r->patience;
    if (!p || p->committed == COMMITTED_NOT || head->status < 200) {
        return p && p->committed != COMMITTED_NOT;
    }
    bool same =
        is_identity(&head->fields) && (is_json(r) || (head->status == 200 && http_is_event_stream(&head->fields)));
    p->committed = same ? COMMITTED_RELAYS : COMMITTED_TELLS;
    if (!same) {
        buf_clear(&p->out);
        p->sent = 0;
    }
    return true;
}

// The end of the answer: an event of an error, in the API's own shape.
static void tell_error(struct request *r, struct str json, enum outcome outcome) {
    struct patience *p = r->patience;
    struct buf event;
    bool stream = !is_json(r);
    const char *before = !stream ? "" : r->route->messages ? "event: error\ndata: " : "data: ";
    buf_init(&event, 2 * TOLD_MAX);
    enum err e = buf_str_append(&event, str_c(before));
    size_t at = buf_len(&event);
    e = e == OK ? buf_str_append(&event, str_trim(json)) : e;
    for (size_t i = at; e == OK && i < buf_len(&event); i++) { // in JSON line breaks stand between tokens only
        char *c = event.ptr + event.start + i;
        *c = *c == '\n' || *c == '\r' ? ' ' : *c;
    }
    e = e == OK ? buf_str_append(&event, stream ? STR("\n\n") : STR("\n")) : e;
    buf_finish(&p->out);
    p->out = event;
    p->sent = 0;
    p->committed = COMMITTED_ENDS;
    p->outcome = outcome;
    if (e != OK) {
        xchg_abort(r->x);
        request_finish(r, OUTCOME_EXHAUSTED);
        return;
    }
    bool all = flush(r);
    if (all && xchg_over(r->x)) {
        request_finish(r, outcome);
    }
}

static void describe_error(struct request *r, int status, const char *code, const char *problem, enum outcome outcome) {
    struct buf json;
    buf_init(&json, TOLD_MAX);
    enum err e = answer_write_status(&json, r->route->messages, status, NULL, code, str_c(problem));
    tell_error(r, e == OK ? buf_str(&json) : STR("{}"), outcome);
    buf_finish(&json);
}

// Other than expected: an error's own words, or that there were none.
static void tell_answer(struct request *r, struct str said) {
    struct reply_error error;
    struct buf room;
    char text[128];
    int status = r->reader.tape->status;
    buf_init(&room, TOLD_MAX);
    bool understood = reply_error(said, &room, &error) == OK;
    buf_finish(&room);
    if (understood) {
        tell_error(r, said, OUTCOME_COMPLETE);
        return;
    }
    snprintf(text, sizeof text, "The upstream answered with status %d, and not with %s.", status,
             is_json(r) ? "JSON" : "an event stream");
    describe_error(r, 502, NULL, text, OUTCOME_COMPLETE);
}

bool patience_bytes(struct request *r, const struct iovec *v, int count, bool last, size_t *taken) {
    struct patience *p = r->patience;
    *taken = 0;
    if (p->committed == COMMITTED_ENDS) {
        return false;
    }
    if (p->committed != COMMITTED_TELLS) {
        return flush(r);
    }
    for (int i = 0; i < count; i++) {
        p->lost = p->lost || buf_append(&p->out, v[i].iov_base, v[i].iov_len) != OK;
        *taken += v[i].iov_len;
    }
    if (last) {
        struct buf said = p->out;
        buf_init(&p->out, TOLD_MAX);
        tell_answer(r, p->lost ? STR("") : buf_str(&said));
        buf_finish(&said);
    }
    return false;
}

void patience_sent(struct request *r, const struct iovec *v, int count, size_t taken) {
    struct patience *p = r->patience;
    p->heard_ms = taken ? now_ms(r) : p->heard_ms;
    for (int i = 0; i < count && taken; i++) {
        struct str part = str_first(str_from(v[i].iov_base, v[i].iov_len), taken);
        taken -= part.len;
        for (struct str end = str_skip(part, part.len > TAIL ? part.len - TAIL : 0); end.len; end = str_skip(end, 1)) {
            memmove(p->tail, p->tail + 1, TAIL - 1);
            p->tail[TAIL - 1] = end.ptr[0];
        }
    }
}

bool patience_fails(struct request *r, int status, const char *code, const char *problem, enum outcome outcome) {
    struct patience *p = r->patience;
    if (!p || p->committed == COMMITTED_NOT || p->committed == COMMITTED_RELAYS) {
        return false;
    }
    if (p->committed == COMMITTED_ENDS) {
        return true;
    }
    describe_error(r, status, code, problem, outcome);
    if (r->state != REQUEST_ENDED) {
        tape_leave(&r->reader);
    }
    return true;
}

bool patience_drain(struct request *r) {
    struct patience *p = r->patience;
    bool all = flush(r);
    if (p->committed == COMMITTED_ENDS) {
        if (all && xchg_over(r->x)) {
            request_finish(r, p->outcome);
        }
        return false;
    }
    return all;
}
