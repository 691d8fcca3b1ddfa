// SPDX-License-Identifier: MIT
// How a request finds the tape of an earlier one, and reads it.
//
//     a key that is free     -> a new tape, kept; the key leads to it
//     a key that is taken    -> its tape: on this worker's shelf, on another's (tape/mirror.h)
//     a tape that went meanwhile (it had failed, or was stored and is too old) -> from the start: the key is free now
#include "gateway/resume.h"

#include <inttypes.h>

#include "gateway/jobs.h"
#include "gateway/responses.h"
#include "gateway/steps.h"
#include "gateway/tapes.h"
#include "http/sse.h"
#include "llm/form.h"
#include "llm/reply.h"

enum { KEY_MAX = 255, ATTEMPTS_MAX = 4, QUERY_MAX = 4096, FIRST_EVENT_MAX = 16 * 1024 };

// Sent before an event stream that is read by its id: browsers come back after this long.
// Without a blank line it is a field of the first event: one of its own would be an event without data to some.
static const struct str prelude = STR_INIT("retry: 1000\n");

static struct resume *resume_of(struct request *r) {
    if (!r->resume) {
        r->resume = xcalloc(1, sizeof *r->resume);
    }
    return r->resume;
}

void resume_end(struct request *r) {
    jobs_leave(r);
    if (r->resume && r->resume->tape) {
        shelf_withdraw(&r->worker->shelf, r->resume->tape);
        tape_unref(r->resume->tape);
    }
    if (r->resume) {
        free(r->resume->model);
        free(r->resume->name);
    }
    free(r->resume);
    r->resume = NULL;
}

// ---- what is wanted

static bool asks_of_tapes(const struct fields *fields) {
    for (unsigned i = 0; i < fields->n; i++) {
        if (field_flags(fields->v[i].id) & FIELD_TAPE) {
            return true;
        }
    }
    return false;
}

static bool is_on(struct str value) { return str_eq(value, STR("1")) || str_ieq(value, STR("true")); }

// RFC 7240: names in any case, perhaps with parameters; any number of fields.
static bool prefers_async(const struct fields *fields) {
    for (unsigned i = 0; i < fields->n; i++) {
        struct str list = fields->v[i].value;
        struct str one;
        while (fields->v[i].id == FIELD_PREFER && str_split(&list, ',', &one)) {
            if (str_ieq(str_trim(str_first(one, str_find(one, ';'))), STR("respond-async"))) {
                return true;
            }
        }
    }
    return false;
}

// Everything that makes two requests the same. Fields do not: SDKs count their retries in one.
static struct digest digest_asked(const struct request *r) {
    struct str parts[] = {str_c(method_name(r->head->method)), r->head->target, r->whole};
    return digest_parts(parts, ARRAY_LEN(parts));
}

static struct digest digest_key(const struct resume *s, const char *kind, struct str key) {
    struct str parts[] = {str_c(kind), str_from((const char *)s->tenant.bytes, sizeof s->tenant.bytes), key};
    return digest_parts(parts, ARRAY_LEN(parts));
}

// False: answered.
static bool read_key(struct request *r, struct str key) {
    struct resume *s = r->resume;
    if (key.len == 0 || key.len > KEY_MAX || fields_count(&r->head->fields, FIELD_IDEMPOTENCY_KEY) != 1) {
        request_error(r, 400, OUTCOME_REFUSED, NULL, "bad_idempotency_key",
                      "An Idempotency-Key is one field of 1 to %d bytes.", KEY_MAX);
        return false;
    }
    s->joins = true;
    s->asked = digest_asked(r);
    s->key = digest_key(s, "key", key);
    return true;
}

// What becomes of a call that nobody reads any more.
static const struct config_disconnect *disconnect_of(const struct config *config, const struct config_route *route,
                                                     bool resumable) {
    if (route && route->own & OWN_ON_DISCONNECT) {
        return &route->on_disconnect;
    }
    return resumable ? &config->tape_disconnect : &config->on_disconnect;
}

static const struct config_route *route_of(const struct request *r) {
    return config_route_find(r->setup->config, target_path(r->head->target));
}

bool resume_goes_on(const struct request *r) {
    return disconnect_of(r->setup->config, route_of(r), false)->action == DISCONNECT_FINISH;
}

// The model's name as the body has it, without its quotes.
static struct str model_in(const struct request *r) {
    const struct call_places *at = &r->places;
    return at->model_len ? str_from(r->whole.ptr + at->model_at + 1, at->model_len - 2) : STR("");
}

// False: answered, or a plain relay.
static bool read_wishes(struct request *r, bool *plain) {
    const struct fields *fields = &r->head->fields;
    const struct config_route *route = route_of(r);
    struct str key = fields_value(fields, FIELD_IDEMPOTENCY_KEY);
    bool whole = r->route->looked_at && r->head->method == METHOD_POST;
    bool keyed = whole && key.ptr;
    bool rerun = r->resume && r->resume->rerun;
    bool async = whole && (rerun || (r->background && !r->streams) || prefers_async(fields));
    bool resumable =
        keyed || async || r->background || is_on(fields_value(fields, FIELD_X_THAW_RESUME)) || (route && route->resume);
    bool keeps = resumable || disconnect_of(r->setup->config, route, false)->action == DISCONNECT_KEEP;
    bool coalesces = whole && route && route->coalesce;
    bool head_only = r->head->method == METHOD_HEAD; // its answer has a length, but no bytes to be read again
    *plain = head_only || (!keeps && !coalesces);
    if (*plain) {
        return true;
    }
    struct resume *s = resume_of(r);
    s->tenant = s->rerun ? s->tenant : who_tenant(fields);
    s->route = route;
    s->async = async;
    s->resumable = resumable;
    s->responses = r->route->responses;
    if (r->background && !s->model) {
        s->model = str_dup(model_in(r));
    }
    if (keyed) {
        return read_key(r, key);
    }
    if (coalesces && !async) {
        s->joins = true;
        s->coalesces = true;
        s->brief = !keeps;
        s->asked = digest_asked(r);
        s->key = digest_key(s, "same", str_from((const char *)s->asked.bytes, sizeof s->asked.bytes));
    }
    return true;
}

// ---- a tape of its own

static void set_disconnect(struct tape_kept *kept, const struct request *r) {
    static const enum tape_disconnect actions[] = {
        [DISCONNECT_CANCEL] = TAPE_ENDS, [DISCONNECT_KEEP] = TAPE_WAITS, [DISCONNECT_FINISH] = TAPE_GOES_ON};
    const struct resume *s = r->resume;
    const struct config_disconnect *wanted = disconnect_of(r->setup->config, s->route, s->resumable);
    kept->disconnect = s->async || r->background ? TAPE_GOES_ON : actions[wanted->action];
    kept->wait_ms = wanted->keep_ms;
}

static struct tape_kept *place_tape(struct request *r) {
    struct resume *s = r->resume;
    struct shelf *shelf = &r->worker->shelf;
    s->tape = tape_create(NULL, NULL);
    shelf_add(shelf, s->tape, r->tenant);
    struct tape_kept *kept = shelf_keep(shelf, s->tape, r->setup->config->tape_max, &s->tenant);
    set_disconnect(kept, r);
    kept->replay_failures = s->route && s->route->replay_errors;
    kept->brief = s->brief;
    if (s->joins && !s->coalesces) {
        kept->key = s->key;
        kept->asked = s->asked;
    }
    if (s->rerun) {
        jobs_name(kept, &s->id);
    }
    return kept;
}

static void withdraw_tape(struct request *r) {
    shelf_withdraw(&r->worker->shelf, r->resume->tape);
    tape_unref(r->resume->tape);
    r->resume->tape = NULL;
}

struct tape *resume_take_tape(struct request *r) {
    struct tape *tape = r->resume->tape;
    r->resume->tape = NULL;
    return tape;
}

// ---- reading one that exists

// OpenAI counts a response's events itself, from a number of its choice: that of the first event is looked up.
struct first_event {
    struct sse sse;
    uint64_t sequence;
    bool seen;
};

static void on_first_event(struct sse *sse, const struct sse_event *event) {
    struct first_event *first = container_of(sse, struct first_event, sse);
    if (!first->seen) {
        first->seen = reply_sequence(event->data, &first->sequence) == OK;
    }
}

static uint64_t first_sequence(const struct tape *t) {
    struct first_event first = {.seen = false};
    struct tape_part part;
    if (tape_start(t) != 0 || tape_share(t, 0, &part, 1) != 1) {
        return 0;
    }
    sse_init(&first.sse, on_first_event);
    sse_feed(&first.sse, str_first(part.bytes, FIRST_EVENT_MAX));
    sse_finish(&first.sse);
    tape_part_drop(&part);
    return first.sequence;
}

// Behind an event that ended with CR LF the mark stands between the two.
static uint64_t skip_line_feed(const struct tape *t, uint64_t position) {
    struct tape_part part;
    if (tape_share(t, position, &part, 1) == 1) {
        position += part.bytes.ptr[0] == '\n';
        tape_part_drop(&part);
    }
    return position;
}

static enum err find_mark(const struct tape *t, uint64_t n, uint64_t *position) {
    enum err e = tape_find_mark(t, n, position);
    *position = e == OK ? skip_line_feed(t, *position) : *position;
    return e;
}

static enum err find_position(const struct resume *s, const struct tape *t, uint64_t *position) {
    uint64_t first = s->from == FROM_SEQUENCE ? first_sequence(t) : 0;
    *position = 0;
    switch (s->from) {
    case FROM_START: break;
    case FROM_BYTE:
        *position = s->n;
        if (s->n > t->written) {
            return tape_running(t) ? ERR_AGAIN : ERR_INVALID;
        }
        break;
    case FROM_SEQUENCE:
    case FROM_EVENT: return s->n < first ? OK : find_mark(t, s->n - first, position);
    }
    return tape_has(t, *position) ? OK : ERR_GONE;
}

static void refuse_position(struct request *r, enum err e, const struct tape *t) {
    if (e == ERR_GONE) {
        request_error(r, 410, OUTCOME_REFUSED, NULL, "tape_dropped",
                      "This part of the answer was dropped: it has grown over %s. What is left begins at "
                      "?offset=%" PRIu64 ".",
                      t->record->marks.lost ? "the memory there was" : "tape.max", tape_start(t));
    } else {
        request_error(r, 400, OUTCOME_REFUSED, NULL, "bad_position",
                      "The answer has not come so far: there are %" PRIu64 " bytes and %" PRIu64 " events.", t->written,
                      tape_marks(t));
    }
}

// Nothing is left to be read, and nothing will come: to an EventSource 204 says so (WHATWG HTML, section 9.2.3).
static bool is_over(const struct resume *s, const struct tape *t, uint64_t position) {
    return s->reads && s->from != FROM_START && !tape_running(t) && position == t->written && t->has_head &&
           http_is_event_stream(&t->record->fields);
}

void resume_attach(struct request *r, struct tape *t) {
    if (r->resume->name && responses_take(r, t)) {
        return;
    }
    uint64_t position = 0;
    if (!r->resume->reads && t->why.end == TAPE_CANCELLED) { // while this one was on its way to join it
        resume_missing(r, SHELF_GONE);
        return;
    }
    enum err e = find_position(r->resume, t, &position);
    if (e == ERR_AGAIN && r->state == REQUEST_FOLLOWING && mirror_wait_on(t, &r->wait)) {
        return; // another worker has given it to this client already, and its news are on their way
    }
    if (e != OK) {
        refuse_position(r, e, t);
    } else if (is_over(r->resume, t, position)) {
        request_answer(r, 204, OUTCOME_LOCAL, STR(""));
    } else {
        request_follow(r, t, position);
    }
}

static void find(struct request *r);

static void on_stored(struct request *r, const struct store_record *record) {
    if (record && jobs_runs_again(r, record)) {
        find(r);
        return;
    }
    if (record && jobs_elsewhere(r, record)) {
        return;
    }
    if (record && !r->resume->reads && jobs_unfinished(record)) {
        resume_missing(r, SHELF_GONE); // nobody's answer
        return;
    }
    struct tape *t = record ? jobs_restore(r->worker, record) : NULL;
    if (t) {
        resume_attach(r, t);
        tape_unref(t);
    } else {
        resume_missing(r, SHELF_UNKNOWN);
    }
}

static void not_in_memory(struct request *r, enum shelf_find found) {
    if (!jobs_find(r, &r->resume->id, on_stored)) {
        resume_missing(r, found);
    }
}

static void on_tape(struct mirror_wait *wait, enum shelf_find found, struct tape *t) {
    struct request *r = container_of(wait, struct request, wait);
    if (found == SHELF_HERE) {
        resume_attach(r, t);
    } else {
        not_in_memory(r, found);
    }
}

static void follow_elsewhere(struct request *r, const struct tape_id *place, unsigned where) {
    const struct resume *s = r->resume;
    if (!s->reads && !request_hold(r)) {
        return;
    }
    request_set_state(r, REQUEST_FOLLOWING);
    r->wait.tenant = s->reads && r->setup->config->tape_read_by_id ? NULL : &s->tenant;
    r->wait.on_tape = on_tape;
    mirror_ask(&r->worker->shelf, place, where, &r->wait);
}

static void find(struct request *r) {
    const struct resume *s = r->resume;
    struct shelf *shelf = &r->worker->shelf;
    struct tape_id place = jobs_place(r->worker, &s->id);
    struct tape *t = NULL;
    unsigned where = 0;
    enum shelf_find found = shelf_find(shelf, str_c(place.text), &t, &where);
    if (found == SHELF_ELSEWHERE) {
        follow_elsewhere(r, &place, where);
    } else if (found != SHELF_HERE) {
        not_in_memory(r, found);
    } else if (!tape_kept(t)) {
        resume_missing(r, SHELF_GONE);
    } else if (!r->setup->config->tape_read_by_id && !shelf_allows(shelf, t, &s->tenant)) {
        resume_missing(r, SHELF_UNKNOWN);
    } else {
        resume_attach(r, t);
    }
}

void resume_missing(struct request *r, enum shelf_find found) {
    struct resume *s = r->resume;
    char keep[24];
    format_duration(keep, sizeof keep, r->setup->config->tape_keep_ms);
    if (!s->reads && s->attempts < ATTEMPTS_MAX) { // its key is free by now
        s->attempts++;
        s->replayed = false;
        shelf_drop_key(r->worker->shelves, &s->key, &s->id);
        request_again(r);
    } else if (!s->reads) {
        request_error(r, 503, OUTCOME_REFUSED, NULL, "tape_lost",
                      "The calls with this Idempotency-Key end before they can be joined. Try again.");
    } else if (s->name && responses_pass_on(r, found)) {
        return;
    } else if (found == SHELF_GONE) {
        request_error(
            r, 410, OUTCOME_REFUSED, NULL, "tape_gone",
            "The answer is not there any more, or never was kept: that is done for %s after its end (tape.keep, "
            "within tape.total), and only of calls with an Idempotency-Key, X-Thaw-Resume: 1, or a route that "
            "says so.",
            keep);
    } else {
        request_error(r, 404, OUTCOME_REFUSED, NULL, "tape_not_found", "No answer of yours has this id.");
    }
}

void resume_read(struct request *r, struct str id) {
    struct resume *s = r->resume;
    if (id.len != TAPE_ID_LEN) {
        resume_missing(r, SHELF_UNKNOWN);
        return;
    }
    memcpy(s->id.text, id.ptr, TAPE_ID_LEN);
    if (s->has_last && (!s->last_id.text[0] || strcmp(s->last_id.text, s->id.text) == 0)) {
        s->from = FROM_EVENT;
        s->n = s->last_n;
    }
    find(r);
}

// ---- the step

static enum shelf_claim claim_key(struct resume *s, struct tape_kept *kept) {
    if (!s->joins) {
        return CLAIM_NEW;
    }
    return s->coalesces ? shelf_claim_while_running(kept, &s->key, &s->asked, &s->id)
                        : shelf_claim(kept, &s->key, &s->asked, &s->id);
}

enum verdict resume_step(struct request *r) {
    bool plain = true;
    struct tape_kept *kept;
    const struct config *config = r->setup->config;
    if (r->route->answer || (!asks_of_tapes(&r->head->fields) && !r->background && !config->route_count &&
                             config->on_disconnect.action != DISCONNECT_KEEP)) {
        return NEXT;
    }
    if (!read_wishes(r, &plain)) {
        return DONE;
    }
    if (plain) {
        return NEXT;
    }
    struct resume *s = r->resume;
    kept = place_tape(r);
    enum shelf_claim claim = claim_key(s, kept);
    claim = claim == CLAIM_TAKEN && s->rerun ? CLAIM_OTHER : claim; // it was asked for anew before it was run again
    switch (claim) {
    case CLAIM_NEW: return NEXT;
    case CLAIM_OTHER:
        withdraw_tape(r);
        request_error(r, 422, OUTCOME_REFUSED, NULL, "idempotency_key_reused",
                      "This Idempotency-Key was used for another request. Use a new key for each request.");
        return DONE;
    case CLAIM_TAKEN: break;
    }
    withdraw_tape(r);
    s->replayed = true;
    if (s->async) {
        tapes_adopt(r, &s->id);
    } else {
        find(r);
    }
    return DONE;
}

// ---- from where

static bool number_of(struct request *r, const char *name, struct str text, uint64_t *n) {
    if (parse_u64(text, n) != OK) {
        request_error(r, 400, OUTCOME_REFUSED, name, "bad_position", "'%s' must be a number.", name);
        return false;
    }
    return true;
}

// "{id}:{n}", or only the number. Another tape's id, or anything else, is not about this one: an EventSource may have been
// pointed elsewhere, and a refusal would stop it for good.
static void read_last_event(struct resume *s, struct str last) {
    size_t colon = str_find(last, ':');
    struct str id = colon < last.len ? str_first(last, colon) : STR("");
    if (id.len && id.len != TAPE_ID_LEN) {
        return;
    }
    s->has_last = parse_u64(id.len ? str_skip(last, colon + 1) : last, &s->last_n) == OK;
    memcpy(s->last_id.text, id.ptr, id.len);
}

static bool read_query(struct request *r) {
    struct resume *s = r->resume;
    struct str target = r->head->target;
    struct form form = form_of_target(target);
    struct str name, value;
    struct buf room;
    bool fine = true;
    buf_init(&room, QUERY_MAX);
    while (fine && form_next(&form, &room, &name, &value) == OK) {
        if (str_eq(name, STR("starting_after"))) {
            s->from = FROM_EVENT;
            fine = number_of(r, "starting_after", value, &s->n);
        } else if (str_eq(name, STR("offset"))) {
            s->from = FROM_BYTE;
            fine = number_of(r, "offset", value, &s->n);
        }
    }
    buf_finish(&room);
    return fine;
}

bool resume_for_reading(struct request *r) {
    struct resume *s = resume_of(r);
    s->reads = true;
    s->head_only = r->head->method == METHOD_HEAD;
    s->tenant = who_tenant(&r->head->fields);
    read_last_event(s, fields_value(&r->head->fields, FIELD_LAST_EVENT_ID));
    return read_query(r);
}

// ---- answering

void resume_acknowledge(struct request *r, const struct tape_id *id, const char *state) {
    char json[CONFIG_PREFIX_MAX + 272];
    struct str prefix = r->setup->config->prefix;
    r->resume->id = *id;
    r->resume->async = true;
    if (r->background) {
        responses_acknowledge(r);
        return;
    }
    snprintf(json, sizeof json, "{\"id\":\"%s\",\"object\":\"thaw.tape\",\"state\":\"%s\",\"url\":\"%.*s/tapes/%s\"}\n",
             id->text, state, STR_ARG(prefix), id->text);
    request_answer(r, 202, OUTCOME_LOCAL, str_c(json));
}

// The error event at its end says that it is not whole; broken off behind that, browsers would lose what came before.
bool resume_ends_in_order(const struct request *r, const struct tape_why *why) {
    const struct tape_head head = tape_head(r->reader.tape);
    return r->resume->reads && head.body_len < 0 && why->error != ERR_NOMEM && why->error != ERR_FULL &&
           http_is_event_stream(&head.fields) && !fields_find(&head.fields, FIELD_CONTENT_ENCODING);
}

void resume_add_fields(struct request *r, struct fields *fields) {
    struct resume *s = r->resume;
    bool coded = fields_find(fields, FIELD_CONTENT_ENCODING);
    if (s->replayed) {
        fields_remove(fields, FIELD_IDEMPOTENT_REPLAYED);
        worker_add(fields, STR("Idempotent-Replayed"), STR("true"));
    }
    if (s->reads && !http_is_event_stream(fields)) {
        fields_remove(fields, FIELD_CACHE_CONTROL);
        worker_add(fields, STR("Cache-Control"), STR("no-store"));
    } else if (s->reads && !coded && !s->name && s->from != FROM_BYTE) { // neither who counts bytes, nor OpenAI's SDKs
        s->prelude_left = (unsigned char)prelude.len;
    }
}

bool resume_send_prelude(struct request *r) {
    struct resume *s = r->resume;
    if (s->prelude_left) {
        struct str rest = str_skip(prelude, prelude.len - s->prelude_left);
        s->prelude_left -= (unsigned char)xchg_send(r->x, rest, false);
    }
    return s->prelude_left == 0;
}
