// SPDX-License-Identifier: MIT
#include "gateway/responses.h"

#include <inttypes.h>

#include "gateway/jobs.h"
#include "gateway/resume.h"
#include "gateway/steps.h"
#include "gateway/tapes.h"
#include "http/sse.h"
#include "llm/form.h"
#include "llm/json.h"
#include "llm/reply.h"

enum { OBJECT_MAX = 8192, QUERY_MAX = 4096, JSON_COST = 24, JSON_EXTRA = 64 * 1024, LAST_EVENTS = 4 };

static const struct str our_prefix = STR_INIT("resp_");

// All that a tape has.
static enum err read_all(const struct tape *t, struct buf *out) {
    buf_init(out, (size_t)(t->written - tape_start(t)) + 1);
    return tape_copy(t, out);
}

static bool is_stream(const struct tape *t) { return t->has_head && http_is_event_stream(&t->record->fields); }

static bool is_coded(const struct tape *t) {
    struct str coding = t->has_head ? fields_value(&t->record->fields, FIELD_CONTENT_ENCODING) : STR("");
    return coding.len && !str_ieq(coding, STR("identity"));
}

// ---- the upstream's own name for a response

// Looks at a stream's first event, or at the whole object at its end.
struct watch {
    struct tape_reader reader;
    struct sse sse;
    struct worker *worker;
    struct task at_end;
    struct grave grave;
    bool ours;
};

static void bury_watch(struct grave *grave) {
    struct watch *watch = container_of(grave, struct watch, grave);
    sse_finish(&watch->sse);
    free(watch);
}

static void end_watch(struct watch *watch) {
    if (watch->reader.tape) {
        task_cancel(&watch->at_end);
        tape_leave(&watch->reader);
        loop_bury(&watch->worker->loop, &watch->grave, bury_watch);
    }
}

static struct digest alias_of(const struct digest *tenant, bool ours, struct str id) {
    struct str parts[] = {ours ? STR("response") : STR("copy"),
                          str_from((const char *)tenant->bytes, sizeof tenant->bytes), id};
    return digest_parts(parts, ARRAY_LEN(parts));
}

static void learn(const struct watch *watch, struct str json) {
    const struct tape *t = watch->reader.tape;
    struct str id;
    struct tape_id other;
    struct tape_kept *kept = tape_kept(t);
    if (kept && reply_id(json, &id) == OK) {
        struct digest alias = alias_of(&kept->tenant, watch->ours, id);
        enum shelf_claim claim = shelf_claim(kept, &alias, NULL, &other);
        (void)claim; // an id that comes twice goes on leading to the first answer
    }
}

static void on_event(struct sse *sse, const struct sse_event *event) {
    struct watch *watch = container_of(sse, struct watch, sse);
    if (watch->reader.tape) {
        learn(watch, event->data); // the first event names it, or none does
        end_watch(watch);
    }
}

static void on_head(struct tape_reader *r UNUSED, const struct tape_head *head UNUSED) {}

static size_t on_bytes(struct tape_reader *r, const struct iovec *v, int count, bool last) {
    struct watch *watch = container_of(r, struct watch, reader);
    bool stream = is_stream(r->tape);
    size_t taken = 0;
    for (int i = 0; i < count; i++) {
        if (stream) {
            sse_feed(&watch->sse, str_from(v[i].iov_base, v[i].iov_len));
        }
        taken += v[i].iov_len;
    }
    if (last && r->tape) {
        loop_flush_later(&watch->worker->loop, &watch->at_end); // by then all of it is on the tape
    }
    return taken;
}

static void on_end(struct tape_reader *r, const struct tape_why *why UNUSED) {
    end_watch(container_of(r, struct watch, reader));
}

static const struct tape_reader_events watch_events = {on_head, on_bytes, on_end};

static void look_at_whole(struct task *task) {
    struct watch *watch = container_of(task, struct watch, at_end);
    struct buf json;
    if (read_all(watch->reader.tape, &json) == OK && !is_stream(watch->reader.tape)) {
        learn(watch, buf_str(&json));
    }
    buf_finish(&json);
    end_watch(watch);
}

void responses_watch(struct worker *w, struct tape *t, bool ours) {
    if (!tape_kept(t) || !tape_running(t)) {
        return;
    }
    struct watch *watch = xcalloc(1, sizeof *watch);
    watch->worker = w;
    watch->ours = ours;
    watch->at_end.run = look_at_whole;
    sse_init(&watch->sse, on_event);
    tape_watch(t, &watch->reader, &watch_events);
}

// ---- objects of our own: a response that is not complete, or never will be

static void answer_object(struct request *r, struct str id, uint64_t created_s, const char *status, struct str error) {
    struct buf json;
    struct str model = str_c(r->resume->model ? r->resume->model : "");
    buf_init(&json, OBJECT_MAX + id.len + model.len + error.len);
    enum err e = buf_str_append(&json, STR("{\"id\":"));
    e = e == OK ? json_append_string(&json, id) : e;
    e = e == OK ? buf_printf(&json,
                             ",\"object\":\"response\",\"created_at\":%" PRIu64
                             ",\"status\":\"%s\",\"background\":%s,\"error\":",
                             created_s, status, r->resume->of == RESPONSE_UPSTREAMS ? "false" : "true")
                : e;
    e = e == OK ? buf_str_append(&json, error.len ? error : STR("null")) : e;
    e = e == OK ? buf_printf(&json,
                             ",\"incomplete_details\":null,\"instructions\":null,\"metadata\":{},\"model\":\"%.*s\","
                             "\"output\":[],\"parallel_tool_calls\":true,\"temperature\":null,\"tool_choice\":\"auto\","
                             "\"tools\":[],\"top_p\":null,\"usage\":null}\n",
                             STR_ARG(model))
                : e;
    if (e == OK) {
        request_answer(r, 200, OUTCOME_LOCAL, buf_str(&json));
    } else {
        request_error(r, 503, OUTCOME_EXHAUSTED, NULL, NULL, "There is no memory for the answer.");
    }
    buf_finish(&json);
}

static void our_name(const struct tape_id *id, char name[64]) {
    snprintf(name, 64, "%.*s%s", STR_ARG(our_prefix), id->text);
}

void responses_acknowledge(struct request *r) {
    char name[64];
    our_name(&r->resume->id, name);
    answer_object(r, str_c(name), clock_unix_s(), "queued", STR(""));
}

static void answer_failed(struct request *r, const struct tape *t, struct str code, struct str message) {
    struct buf error;
    buf_init(&error, OBJECT_MAX + 8 * (code.len + message.len));
    enum err e = buf_str_append(&error, STR("{\"code\":"));
    e = e == OK ? json_append_string(&error, code.len ? code : STR("server_error")) : e;
    e = e == OK ? buf_str_append(&error, STR(",\"message\":")) : e;
    e = e == OK ? json_append_string(&error, message) : e;
    e = e == OK ? buf_str_append(&error, STR("}")) : e;
    answer_object(r, str_c(r->resume->name), t->record->created_s, "failed", e == OK ? buf_str(&error) : STR(""));
    buf_finish(&error);
}

// The upstream's error became a response that failed.
static void answer_refused(struct request *r, const struct tape *t, struct str json) {
    struct reply_error error = {0};
    struct buf room;
    char text[40];
    buf_init(&room, OBJECT_MAX + 8 * json.len);
    enum err e = reply_error(json, &room, &error);
    snprintf(text, sizeof text, "The upstream answered %d.", t->status);
    answer_failed(r, t, e == OK ? error.code : STR(""), e == OK && error.message.len ? error.message : str_c(text));
    buf_finish(&room);
}

// The upstream's object under the name it is asked for by.
static void answer_whole(struct request *r, struct str json) {
    struct str id;
    struct str name = str_c(r->resume->name);
    struct buf out;
    buf_init(&out, json.len + name.len + 1);
    enum err e = reply_id(json, &id);
    if (e == OK) {
        size_t at = (size_t)(id.ptr - json.ptr);
        e = buf_str_append(&out, str_first(json, at));
        e = e == OK ? buf_str_append(&out, name) : e;
        e = e == OK ? buf_str_append(&out, str_skip(json, at + id.len)) : e;
    }
    if (e != ERR_NOMEM) {
        request_answer(r, 200, OUTCOME_LOCAL, e == OK ? buf_str(&out) : json);
    } else {
        request_error(r, 503, OUTCOME_EXHAUSTED, NULL, NULL, "There is no memory for the answer.");
    }
    buf_finish(&out);
}

// The data of one event, as streams of this API have it: in one line.
static struct str data_of(struct str event) {
    struct str line;
    while (str_split(&event, '\n', &line)) {
        if (str_starts(line, STR("data:"))) {
            return str_trim(str_skip(line, 5));
        }
    }
    return STR("");
}

// Will it stay as it is?
static bool is_done(const struct json_value *response) {
    struct str status = json_string(json_member(response, "status"));
    return json_is_object(response) && !str_eq(status, STR("queued")) && !str_eq(status, STR("in_progress"));
}

static struct json *read_json(struct str json) { return json_open(json, JSON_COST * json.len + JSON_EXTRA); }

// One of a stream's last events carries the object as it is in the end.
static bool answer_from_stream(struct request *r, const struct tape *t, struct str bytes) {
    const struct tape_marks *marks = &t->record->marks;
    uint64_t from = tape_start(t);
    bool answered = false;
    for (size_t i = marks->count; i-- > 0 && marks->count - i <= LAST_EVENTS && !answered;) {
        uint64_t begin = i ? marks->v[i - 1] : from;
        if (begin < from) {
            break;
        }
        struct str event = str_from(bytes.ptr + (begin - from), (size_t)(marks->v[i] - begin));
        struct str data = data_of(event);
        struct json *json = read_json(data);
        const struct json_value *response = json_member(json_root(json), "response");
        struct str raw = is_done(response) ? json_raw(json, response) : STR("");
        if (raw.len) {
            answer_whole(r, raw);
            answered = true;
        }
        json_close(json);
    }
    return answered;
}

static void answer_ended(struct request *r, struct tape *t, struct str bytes) {
    if (t->status >= 400) {
        answer_refused(r, t, bytes);
    } else if (is_coded(t)) {
        request_follow(r, t, tape_start(t)); // as it is
    } else if (!is_stream(t)) {
        answer_whole(r, bytes);
    } else if (!answer_from_stream(r, t, bytes)) {
        answer_failed(r, t, STR(""), STR("The stream ended without a complete response."));
    }
}

static void answer_tape(struct request *r, struct tape *t) {
    struct str name = str_c(r->resume->name);
    struct buf bytes;
    switch (t->why.end) {
    case TAPE_RUNNING:
        answer_object(r, name, t->record->created_s, t->has_head ? "in_progress" : "queued", STR(""));
        return;
    case TAPE_CANCELLED: answer_object(r, name, t->record->created_s, "cancelled", STR("")); return;
    case TAPE_CUT: answer_failed(r, t, STR(""), str_c(t->why.problem ? t->why.problem : "")); return;
    case TAPE_WHOLE: break;
    }
    if (read_all(t, &bytes) == OK) {
        answer_ended(r, t, buf_str(&bytes));
    } else {
        request_error(r, 503, OUTCOME_EXHAUSTED, NULL, NULL, "There is no memory for the answer.");
    }
    buf_finish(&bytes);
}

// A copy of an answer that said that its response is not done: that has changed since.
static bool is_stale(const struct tape *t) {
    struct buf bytes;
    bool stale = true;
    if (read_all(t, &bytes) == OK) {
        struct json *json = read_json(buf_str(&bytes));
        stale = !is_done(json_root(json));
        json_close(json);
    }
    buf_finish(&bytes);
    return stale;
}

// Does a copy tell as much as the upstream would?
static bool is_good_copy(const struct resume *s, const struct tape *t) {
    if (tape_running(t)) {
        return s->object || !t->has_head || is_stream(t);
    }
    return t->why.end == TAPE_WHOLE && !(s->object && is_coded(t)) && (is_stream(t) || (s->object && !is_stale(t)));
}

bool responses_take(struct request *r, struct tape *t) {
    const struct resume *s = r->resume;
    if (s->of == RESPONSE_UPSTREAMS && !is_good_copy(s, t) && responses_pass_on(r, SHELF_GONE)) {
        return true;
    }
    if (s->object) {
        answer_tape(r, t);
    } else if (t->has_head && t->status < 400 && !is_stream(t)) {
        request_error(r, 400, OUTCOME_REFUSED, "stream", "not_a_stream",
                      "This response was not asked for with 'stream: true'.");
    } else {
        return false;
    }
    return true;
}

// ---- /responses/{id}, /responses/{id}/cancel

static void relay(struct request *r) {
    resume_end(r);
    r->targets = &r->setup->any;
    request_start(r);
}

bool responses_pass_on(struct request *r, enum shelf_find found) {
    enum response_of of = r->resume->of;
    bool upstreams = of == RESPONSE_UPSTREAMS || (of == RESPONSE_PERHAPS && found == SHELF_UNKNOWN);
    if (!upstreams || r->head->body_len != 0) { // a body is gone by now
        return false;
    }
    request_set_state(r, REQUEST_READING);
    relay(r);
    return true;
}

static bool query_says_stream(struct str target) {
    struct form form = form_of_target(target);
    struct str name, value;
    struct buf room;
    bool stream = false;
    buf_init(&room, QUERY_MAX);
    while (form_next(&form, &room, &name, &value) == OK) {
        stream = str_eq(name, STR("stream")) ? str_eq(value, STR("true")) : stream;
    }
    buf_finish(&room);
    return stream;
}

static bool find_alias(struct request *r, bool ours, struct str name) {
    struct resume *s = r->resume;
    struct digest alias = alias_of(&s->tenant, ours, name);
    s->of = ours ? RESPONSE_OURS : RESPONSE_UPSTREAMS;
    return shelf_lookup(r->worker->shelves, &alias, &s->id);
}

// Is this a response that there may be a tape of? r->resume->id is that then.
static bool find_tape(struct request *r, struct str name) {
    struct resume *s = r->resume;
    struct tape *t;
    unsigned where;
    if (find_alias(r, true, name) || find_alias(r, false, name)) {
        return true;
    }
    if (!str_starts(name, our_prefix) || name.len != our_prefix.len + TAPE_ID_LEN) {
        return false;
    }
    memcpy(s->id.text, name.ptr + our_prefix.len, TAPE_ID_LEN);
    struct tape_id place = jobs_place(r->worker, &s->id);
    bool known = shelf_find(&r->worker->shelf, str_c(place.text), &t, &where) != SHELF_UNKNOWN;
    s->of = known ? RESPONSE_OURS : RESPONSE_PERHAPS;
    return known || r->worker->store;
}

// Whatever had become of it: as it is now.
static void on_cancelled(struct request *r, const struct tape_state *state UNUSED, enum shelf_find found UNUSED) {
    resume_read(r, str_c(r->resume->id.text));
}

static void answer_deleted(struct request *r) {
    struct buf json;
    buf_init(&json, OBJECT_MAX);
    enum err e = buf_str_append(&json, STR("{\"id\":"));
    e = e == OK ? json_append_string(&json, str_c(r->resume->name)) : e;
    e = e == OK ? buf_str_append(&json, STR(",\"object\":\"response\",\"deleted\":true}\n")) : e;
    request_answer(r, 200, OUTCOME_LOCAL, e == OK ? buf_str(&json) : STR(""));
    buf_finish(&json);
}

static void on_stored(struct request *r, const struct store_record *record) {
    if (record && jobs_elsewhere(r, record)) {
        return;
    }
    if (record) {
        jobs_forget(r->worker, &r->resume->id);
        answer_deleted(r);
    } else {
        resume_missing(r, SHELF_UNKNOWN);
    }
}

static void on_deleted(struct request *r, const struct tape_state *state, enum shelf_find found) {
    struct resume *s = r->resume;
    if (state && !state->deleted && s->attempts++ == 0) { // it ran, and has ended now
        tapes_ask(r, &s->id, TAPES_DELETE, on_deleted);
    } else if (s->of == RESPONSE_UPSTREAMS) {
        jobs_forget(r->worker, &s->id); // it may be there, whether it was in memory or not
        resume_missing(r, SHELF_GONE);
    } else if (state) {
        answer_deleted(r);
    } else if (!jobs_find(r, &r->resume->id, on_stored)) {
        resume_missing(r, found);
    }
}

void responses_route(struct request *r) {
    struct str rest = route_below(r);
    struct str name = str_first(rest, str_find(rest, '/'));
    struct str action = str_skip(rest, name.len);
    bool reads = r->head->method == METHOD_GET && action.len == 0;
    bool deletes = r->head->method == METHOD_DELETE && action.len == 0;
    bool cancels = r->head->method == METHOD_POST && str_eq(action, STR("/cancel"));
    if (!resume_for_reading(r)) {
        return;
    }
    struct resume *s = r->resume;
    bool found = (reads || deletes || cancels) && find_tape(r, name);
    if (!found || (cancels && s->of == RESPONSE_UPSTREAMS)) {
        relay(r);
        return;
    }
    s->name = str_dup(name); // of the head, which will be another one
    if (!request_hold(r)) {
        return;
    }
    s->object = cancels || (reads && !query_says_stream(r->head->target));
    s->from = s->from == FROM_EVENT ? FROM_SEQUENCE : s->from;
    if (reads) {
        resume_read(r, str_c(s->id.text));
    } else {
        tapes_ask(r, &s->id, deletes ? TAPES_DELETE : TAPES_CANCEL, deletes ? on_deleted : on_cancelled);
    }
}
