// SPDX-License-Identifier: MIT
// A call of the deck.
//
//              the body is there, there is a recording
//   ARRIVING -----------------------------------------> PLAYING ----+
//      |     \ there is none, one is to be made                      > OVER
//      |      +---------------------------------------> RELAYING ---+
//      +-- there is none ------------------------------> REFUSED ---+
//
//   ARRIVING  `body` gathers the request
//   PLAYING   the timer runs until the next piece is due, or `held` waits for room
//   RELAYING  the upstream exchange runs; it is paused while `held` waits for room
//   REFUSED   `held` waits for room
//   OVER      in the loop's graveyard
//
// In every state but the first: what the client has not taken yet is in `held`, and once `ended` is set that is all.
#include "mock/deck.h"

#include <assert.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "http/client.h"
#include "llm/peek.h"
#include "mock/answer.h"

enum {
    BODY_CAP = 64 * 1024 * 1024,
    HELD_CAP = 64 * 1024 * 1024,
    TARGET_CAP = 64 * 1024,
    TURN_BYTES = 256 * 1024,
    CONNECT_MS = 10 * 1000,
    IDLE_MS = 1,
    PATH_ROOM = 4096,
    SECRET_MIN = 8, // shorter credentials would be found everywhere
};

struct deck {
    struct loop *loop;
    struct deck_options options;
    struct journal *journal;
    struct dns *dns;
    struct http_client client;
    struct origin origin;
    struct list calls;
    struct buf target; // scratch, for the time of one callback
    struct buf scratch;
    uint64_t files; // were begun
};

enum state { ARRIVING, PLAYING, RELAYING, REFUSED, OVER };

struct deck_call {
    struct deck *deck;
    struct xchg *x; // the client's
    struct xchg up; // RELAYING
    struct list node;
    struct timer timer;
    struct grave grave;
    const struct head *head; // ARRIVING
    struct buf body;         // of the request
    struct buf held;
    uint64_t id; // in the journal
    uint64_t start_ns;
    struct str pieces; // PLAYING: of the recording, what is left
    const struct recording *recording;
    struct recording made; // RELAYING: what the file's head says; the strings are in `asked`
    FILE *file;            // RELAYING: NULL once it is closed, or could not be written
    char *asked;           // RELAYING: method, target as written down, target as sent, secret, fields
    struct str target;     // RELAYING: as sent
    struct str secret;     // the client's credential
    char *fields;          // RELAYING: packed
    size_t sent;           // RELAYING: of the body
    uint64_t number;       // of the file
    enum state state;
    bool head_sent;
    bool ended;
    char name[LIBRARY_NAME];
};

static uint64_t now_ns(const struct deck *d) { return d->loop->clock->now_ns(d->loop->clock); }

static void set_state(struct deck_call *c, enum state state) {
    assert(c->state != OVER && (state == OVER || c->state == ARRIVING));
    timer_clear(&c->timer);
    c->state = state;
}

// ---- the file

static void path_of(const struct deck_call *c, bool whole, char out[PATH_ROOM]) {
    if (whole) {
        snprintf(out, PATH_ROOM, "%s/%s", c->deck->options.folder, c->name);
    } else {
        snprintf(out, PATH_ROOM, "%s/.%s.%ld-%llu", c->deck->options.folder, c->name, (long)getpid(),
                 (unsigned long long)c->number);
    }
}

static void drop_file(struct deck_call *c) {
    char path[PATH_ROOM];
    if (c->file) {
        fclose(c->file);
        c->file = NULL;
        path_of(c, false, path);
        (void)unlink(path);
    }
}

static void lose_file(struct deck_call *c, const char *path) {
    log_warning("a call is not recorded: cannot write %s", path);
    drop_file(c);
}

// Writes what is in the scratch buffer.
static void write_file(struct deck_call *c, const struct out *o) {
    struct str text = buf_str(o->b);
    if (c->file && (o->e != OK || fwrite(text.ptr, 1, text.len, c->file) != text.len)) {
        lose_file(c, c->name);
    }
}

static struct out begin_text(struct deck *d) {
    buf_clear(&d->scratch);
    return (struct out){&d->scratch, OK};
}

// Not written down, beside credentials: whose the upstream's account is, and whose the client's session.
static bool is_private(const struct field *f) {
    static const char *const names[] = {"set-cookie", "openai-organization", "openai-project",
                                        "anthropic-organization-id", "www-authenticate"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_ieq(f->name, str_c(names[i]))) {
            return true;
        }
    }
    return field_flags(f->id) & FIELD_CREDENTIAL;
}

static void record_head(struct deck_call *c, const struct head *head) {
    struct field room[RECORDING_FIELDS_MAX];
    struct fields fields = FIELDS(room);
    char path[PATH_ROOM];
    enum err e = OK;
    for (unsigned i = 0; i < head->fields.n && e == OK; i++) {
        e = is_private(&head->fields.v[i]) ? OK : fields_push(&fields, &head->fields.v[i]);
    }
    c->made.status = head->status;
    c->made.length = head->body_len;
    c->made.head_ns = now_ns(c->deck) - c->start_ns;
    c->number = ++c->deck->files;
    path_of(c, false, path);
    c->file = fopen(path, "we");
    if (!c->file) {
        lose_file(c, path);
        return;
    }
    struct out o = begin_text(c->deck);
    o.e = e;
    recording_put_head(&o, &c->made, &fields);
    write_file(c, &o);
}

// Some upstreams quote a wrong key in their error. What is told in two pieces stays.
static void mask_secret(struct str secret, char *bytes, size_t n) {
    struct str rest = str_from(bytes, n);
    for (;;) {
        size_t at = secret.len < SECRET_MIN ? rest.len : str_search(rest, secret);
        if (at == rest.len) {
            return;
        }
        memset(bytes + n - rest.len + at, '*', secret.len);
        rest = str_skip(rest, at + secret.len);
    }
}

static void record_piece(struct deck_call *c, struct str bytes) {
    struct out o = begin_text(c->deck);
    if (!c->file) {
        return;
    }
    struct buf copy; // the client gets the bytes as they came
    buf_init(&copy, bytes.len + 1);
    if (buf_str_append(&copy, bytes) == OK) {
        mask_secret(c->secret, buf_tail(&copy) - bytes.len, bytes.len);
        recording_put_piece(&o, now_ns(c->deck) - c->start_ns, buf_str(&copy));
    } else {
        o.e = ERR_NOMEM;
    }
    write_file(c, &o);
    buf_finish(&copy);
}

// The recording is complete: it gets its name, and is known.
static void finish_file(struct deck_call *c, bool whole) {
    char made[PATH_ROOM];
    char path[PATH_ROOM];
    char problem[LIBRARY_PROBLEM];
    struct out o = begin_text(c->deck);
    recording_put_end(&o, now_ns(c->deck) - c->start_ns, whole);
    write_file(c, &o);
    if (!c->file) {
        return;
    }
    path_of(c, false, made);
    path_of(c, true, path);
    FILE *file = c->file;
    c->file = NULL;
    if (fclose(file) != 0 || rename(made, path) != 0) {
        log_warning("a call is not recorded: cannot write %s", path);
        (void)unlink(made);
    } else if (c->deck->options.library && library_add(c->deck->options.library, path, problem) != OK) {
        log_warning("a recording is not played before the next start: %s", problem);
    }
}

// ---- a call's life

static void bury(struct grave *grave) {
    struct deck_call *c = container_of(grave, struct deck_call, grave);
    free(c->asked);
    buf_finish(&c->body);
    buf_finish(&c->held);
    free(c);
}

static void ignore_head(struct xchg *x UNUSED, struct head *head UNUSED) {}
static void ignore_body(struct xchg *x UNUSED, struct str bytes UNUSED, bool end UNUSED) {}
static void ignore_drain(struct xchg *x UNUSED) {}
static void ignore_fail(struct xchg *x UNUSED, enum err e UNUSED, const char *problem UNUSED) {}
static const struct xchg_events nobody = {ignore_head, ignore_body, ignore_drain, ignore_fail};

static void end_call(struct deck_call *c, enum journal_end end) {
    set_state(c, OVER);
    journal_ended(c->deck->journal, c->id, end, 0, now_ns(c->deck));
    if (!xchg_over(c->x)) {
        c->x->events = &nobody;
    }
    xchg_abort(&c->up);
    drop_file(c);
    list_unlink(&c->node);
    loop_bury(c->deck->loop, &c->grave, bury);
}

static void break_call(struct deck_call *c) {
    xchg_abort(c->x);
    end_call(c, END_CUT);
}

static void send_head(struct deck_call *c, const struct head *head) {
    c->head_sent = true;
    journal_first_byte(c->deck->journal, c->id, head->status, now_ns(c->deck));
    xchg_send_head(c->x, head);
}

// Sends what is held; true if nothing is any more. If that was all, the call is over.
static bool send_held(struct deck_call *c) {
    struct str bytes = buf_str(&c->held);
    size_t taken = bytes.len || c->ended ? xchg_send(c->x, bytes, c->ended) : 0;
    buf_consume(&c->held, taken);
    if (taken < bytes.len) {
        return false;
    }
    buf_finish(&c->held);
    if (c->ended) {
        end_call(c, END_WHOLE);
    }
    return true;
}

static void refuse(struct deck_call *c, int status, struct str message) {
    struct field room[2];
    struct head head = {.status = status, .fields = FIELDS(room)};
    struct answer a = {.status = status, .message = message};
    uint64_t length = 0;
    if (c->state == ARRIVING) {
        set_state(c, REFUSED);
    }
    buf_clear(&c->held);
    answer_start(&a, &answer_error);
    enum err e = answer_measure(&a, &c->held, &length);
    e = e == OK ? fields_add(&head.fields, STR("Content-Type"), STR("application/json")) : e;
    if (e != OK) {
        break_call(c);
        return;
    }
    head.body_len = (int64_t)length;
    c->ended = true;
    send_head(c, &head);
    (void)send_held(c);
}

// ---- playing

static uint64_t due_ms(const struct deck_call *c, uint64_t at_ns) {
    double speed = c->deck->options.speed;
    double wait = speed > 0 ? (double)at_ns / speed : 0;
    return (c->start_ns + (uint64_t)wait + 999999) / 1000000;
}

// True if it is time; else the timer will come.
static bool is_time(struct deck_call *c, uint64_t at_ns) {
    if (c->deck->options.speed <= 0 || at_ns == 0 || c->deck->loop->now_ms >= due_ms(c, at_ns)) {
        return true;
    }
    wheel_set(&c->deck->loop->wheel, &c->timer, due_ms(c, at_ns));
    return false;
}

// What Content-Length says: a file may have been edited, so it is believed only where there is nothing to be counted.
static int64_t length_of(const struct recording *r) {
    bool no_body = str_eq(r->method, STR("HEAD")) || r->status == 304;
    if (r->length < 0 || (no_body && r->bytes == 0)) {
        return r->length;
    }
    if (r->whole) {
        return (int64_t)r->bytes;
    }
    return (uint64_t)r->length > r->bytes ? r->length : BODY_UNKNOWN; // it was cut: there was to be more
}

static void play_head(struct deck_call *c) {
    struct field room[RECORDING_FIELDS_MAX];
    const struct recording *r = c->recording;
    struct head head = {.status = r->status, .fields = FIELDS(room), .body_len = BODY_UNKNOWN};
    struct str rest = r->fields;
    struct str name;
    struct str value;
    while (recording_field(&rest, &name, &value)) {
        enum err e = fields_add(&head.fields, name, value);
        assert(e == OK); // no recording has more
        (void)e;
    }
    head.body_len = length_of(r);
    send_head(c, &head);
}

// A piece, or the end. False: there is nothing to do for now, or ever.
static bool play_next(struct deck_call *c) {
    struct str rest = c->pieces;
    struct str lines;
    uint64_t at_ns = 0;
    enum recording_part part = recording_next(&rest, &at_ns, &lines);
    if (!is_time(c, at_ns)) {
        return false;
    }
    c->pieces = rest;
    if (part == RECORDING_CUT || (part == RECORDING_PIECE && recording_decode(lines, &c->held) != OK)) {
        break_call(c);
        return false;
    }
    c->ended = part == RECORDING_END;
    return true;
}

static void play(struct deck_call *c) {
    if (!c->head_sent) {
        if (!is_time(c, c->recording->head_ns)) {
            return;
        }
        play_head(c);
    }
    for (size_t sent = 0; c->state != OVER && send_held(c) && c->state != OVER;) {
        if (sent > TURN_BYTES) {
            timer_set(c->deck->loop, &c->timer, 0);
            return;
        }
        if (!play_next(c)) {
            return;
        }
        sent += buf_len(&c->held);
    }
}

static void on_timer(struct timer *timer) { play(container_of(timer, struct deck_call, timer)); }

// ---- relaying

static void send_body(struct deck_call *c) {
    struct str rest = str_skip(buf_str(&c->body), c->sent);
    c->sent += xchg_send(&c->up, rest, true);
}

static void send_request(struct deck_call *c) {
    struct field room[RECORDING_FIELDS_MAX];
    struct fields fields = FIELDS(room);
    const char *end = fields_unpack(&fields, c->fields);
    struct head head = {
        .method = method_parse(c->made.method),
        .method_name = c->made.method,
        .target = c->target,
        .authority = c->deck->origin.authority,
        .fields = fields,
        .body_len = (int64_t)buf_len(&c->body),
    };
    assert(end); // there is room for as many as a request may have
    (void)end;
    xchg_send_head(&c->up, &head);
    send_body(c);
}

static struct deck_call *of_up(struct xchg *up) { return container_of(up, struct deck_call, up); }

static void up_on_head(struct xchg *up, struct head *head) {
    struct deck_call *c = of_up(up);
    if (head->status >= 200) {
        http_head_strip(&head->fields);
        record_head(c, head);
        send_head(c, head);
    }
}

static void up_on_body(struct xchg *up, struct str bytes, bool end) {
    struct deck_call *c = of_up(up);
    if (bytes.len) {
        record_piece(c, bytes);
    }
    if (end) {
        finish_file(c, true);
        c->ended = true;
    }
    if (buf_str_append(&c->held, bytes) != OK) {
        break_call(c);
    } else if (!send_held(c) && !end) {
        xchg_pause(up);
    }
}

static void up_on_drain(struct xchg *up) {
    struct deck_call *c = of_up(up);
    if (c->sent == 0 && !c->head_sent && c->fields) {
        send_request(c);
        c->fields = NULL;
    } else {
        send_body(c);
    }
}

static void up_on_fail(struct xchg *up, enum err e UNUSED, const char *problem) {
    struct deck_call *c = of_up(up);
    char text[300];
    if (c->head_sent) {
        finish_file(c, false);
        break_call(c);
        return;
    }
    int n = snprintf(text, sizeof text, "The upstream that is recorded, %.*s, failed: %s",
                     STR_ARG(c->deck->origin.authority), problem);
    refuse(c, 502, str_from(text, MIN((size_t)n, sizeof text - 1)));
}

static const struct xchg_events up_events = {up_on_head, up_on_body, up_on_drain, up_on_fail};

static bool is_accept_encoding(struct str name) { return str_ieq(name, STR("accept-encoding")); }

// What goes upstream of the request's fields. A recording shall be text: nothing is compressed.
static void keep_fields(const struct head *head, struct fields *fields) {
    for (unsigned i = 0; i < head->fields.n; i++) {
        if (!is_accept_encoding(head->fields.v[i].name)) {
            enum err e = fields_push(fields, &head->fields.v[i]);
            assert(e == OK); // the array is as large as a request's may be
            (void)e;
        }
    }
    http_head_strip(fields);
}

static struct str credential(const struct fields *fields) {
    for (unsigned i = 0; i < fields->n; i++) {
        struct str value = fields->v[i].value;
        if (field_flags(fields->v[i].id) & FIELD_CREDENTIAL) {
            size_t blank = str_find(value, ' ');
            return blank < value.len ? str_trim(str_skip(value, blank)) : value;
        }
    }
    return (struct str){NULL, 0};
}

static struct str keep(char **at, struct str s) {
    char *to = *at;
    if (s.len) {
        memcpy(to, s.ptr, s.len);
    }
    *at += s.len;
    return str_from(to, s.len);
}

// The request's head is copied: it is gone before the upstream can be reached.
static bool keep_request(struct deck_call *c, const struct library_key *key) {
    struct field room[RECORDING_FIELDS_MAX];
    struct fields fields = FIELDS(room);
    const struct head *head = c->head;
    struct str base = c->deck->options.base_path;
    struct str rest = str_skip(head->target, base.len && str_starts(head->target, STR("/v1/")) ? 3 : 0);
    keep_fields(head, &fields);
    struct str secret = credential(&fields);
    char *at = try_malloc(head->method_name.len + key->target.len + base.len + rest.len + secret.len +
                          fields_packed_size(&fields));
    c->asked = at;
    if (!at) {
        return false;
    }
    c->made.method = keep(&at, head->method_name);
    c->made.target = keep(&at, key->target);
    c->made.body = key->body;
    c->target = keep(&at, base);
    c->target.len += keep(&at, rest).len;
    c->secret = keep(&at, secret);
    c->fields = at;
    fields_pack(&fields, at);
    library_file_name(key, c->name);
    return true;
}

static void relay(struct deck_call *c, const struct library_key *key) {
    if (!keep_request(c, key)) {
        refuse(c, 503, STR("out of memory"));
        return;
    }
    set_state(c, RELAYING);
    c->up = (struct xchg){.events = &up_events};
    if (client_start(&c->deck->origin, &c->up, true) == OK) {
        up_on_drain(&c->up);
    }
}

// ---- the client's side

static void answer_call(struct deck_call *c) {
    struct deck *d = c->deck;
    struct library_key key;
    struct peek peek;
    struct peek_error ignored;
    const struct head *head = c->head;
    c->start_ns = now_ns(d);
    if (peek_request(buf_str(&c->body), &peek, &ignored)) {
        journal_asked(d->journal, c->id, peek.model, STR(""), peek.stream);
    }
    if (library_key(head->method_name, head->target, buf_str(&c->body), &d->target, &d->scratch, &key) != OK) {
        refuse(c, 503, STR("out of memory"));
        return;
    }
    c->recording = d->options.library ? library_find(d->options.library, &key) : NULL;
    if (c->recording) {
        set_state(c, PLAYING);
        c->pieces = c->recording->pieces;
        play(c);
    } else if (d->options.folder) {
        relay(c, &key);
    } else {
        char near[LIBRARY_NAME + 200];
        char text[sizeof near + 80];
        int n = snprintf(text, sizeof text, "There is no recording of this request: %s",
                         library_nearest(d->options.library, &key, near, sizeof near));
        refuse(c, 404, str_from(text, MIN((size_t)n, sizeof text - 1)));
    }
}

static void on_body(struct xchg *x, struct str bytes, bool end) {
    struct deck_call *c = x->owner;
    if (c->state != ARRIVING) {
        return;
    }
    enum err e = buf_str_append(&c->body, bytes);
    if (e != OK) {
        refuse(c, e == ERR_FULL ? 413 : 503,
               e == ERR_FULL ? STR("The body is larger than 64 MiB") : STR("out of memory"));
    } else if (end) {
        answer_call(c);
    }
}

static void on_drain(struct xchg *x) {
    struct deck_call *c = x->owner;
    if (c->state == PLAYING) {
        play(c);
    } else if (c->state != ARRIVING && send_held(c) && c->state == RELAYING) {
        xchg_resume(&c->up);
    }
}

static void on_fail(struct xchg *x, enum err e UNUSED, const char *problem UNUSED) { end_call(x->owner, END_GONE); }

static const struct xchg_events client_events = {ignore_head, on_body, on_drain, on_fail};

void deck_request(struct deck *deck, struct xchg *x, struct head *head, const char *shown) {
    struct deck_call *c = try_malloc(sizeof *c);
    if (!c) {
        xchg_abort(x);
        return;
    }
    *c = (struct deck_call){.deck = deck, .x = x, .head = head, .timer.on_timer = on_timer};
    buf_init(&c->body, BODY_CAP);
    buf_init(&c->held, HELD_CAP);
    c->id = journal_arrived(deck->journal, shown, now_ns(deck));
    list_push_back(&deck->calls, &c->node);
    x->events = &client_events;
    x->owner = c;
    if (head->expect_continue) {
        xchg_send_head(x, &(struct head){.status = 100});
    }
}

// ---- the deck

struct deck *deck_create(struct loop *loop, const struct deck_options *options, struct journal *journal) {
    struct deck *d = xcalloc(1, sizeof *d);
    d->loop = loop;
    d->options = *options;
    d->journal = journal;
    list_init(&d->calls);
    buf_init(&d->target, TARGET_CAP);
    buf_init(&d->scratch, 2 * (size_t)BODY_CAP);
    if (options->folder) {
        d->dns = dns_create(loop, NULL);
        d->client =
            (struct http_client){.loop = loop, .dns = d->dns, .limits = HTTP_LIMITS_DEFAULT, .idle_ms = IDLE_MS};
        http_client_init(&d->client);
        d->origin.authority = options->authority;
        d->origin.target = (struct dial_target){options->host, options->port, options->tls, CONNECT_MS};
        origin_init(&d->origin, &d->client);
    }
    return d;
}

void deck_destroy(struct deck *deck) {
    if (!deck) {
        return;
    }
    list_each(node, &deck->calls) { end_call(container_of(node, struct deck_call, node), END_CUT); }
    if (deck->options.folder) {
        origin_finish(&deck->origin);
        http_client_finish(&deck->client);
        dns_destroy(deck->dns);
    }
    buf_finish(&deck->target);
    buf_finish(&deck->scratch);
    free(deck);
}
