// SPDX-License-Identifier: MIT
#include "gateway/access.h"

#include <time.h>

#include "base/mem.h"
#include "base/out.h"
#include "gateway/request.h"
#include "gateway/steps.h"
#include "llm/json.h"
#include "work/sink.h"

enum {
    LINE_MAX = 8 * 1024,
    LINE_MOSTLY = 1024,
    PATH_MAX_SHOWN = 512,
    NAME_MAX_SHOWN = 128,
    ID_SHOWN = 6,
    KEY_SHOWN = 4
};

struct access {
    uint64_t begun_ns;
    uint64_t bytes_in, bytes_out;
    struct trail *trail;
    struct address peer; // len 0: unknown
    int status;
    enum method method;
    char path[PATH_MAX_SHOWN];
    char model[NAME_MAX_SHOWN];
    char key[NAME_MAX_SHOWN];
};

// ---- trails

struct trail *trail_create(void) {
    struct trail *t = xcalloc(1, sizeof *t);
    t->references = 1;
    return t;
}

void trail_unref(struct trail *t) {
    if (t && --t->references == 0) {
        free(t);
    }
}

// ---- what is learnt

static void copy(char *out, size_t room, struct str s) { snprintf(out, room, "%.*s", STR_ARG(str_first(s, room - 1))); }

struct access *access_begin(struct request *r) {
    if (!r->worker->options.access) {
        return NULL;
    }
    struct access *a = xcalloc(1, sizeof *a);
    a->begun_ns = r->worker->loop.now_ns;
    a->method = r->head->method;
    copy(a->path, sizeof a->path, target_path(r->head->target));
    if (!xchg_peer(r->x, &a->peer)) {
        a->peer.len = 0;
    }
    return a;
}

void access_set_model(struct request *r, struct str model) {
    if (r->access) {
        copy(r->access->model, sizeof r->access->model, model);
    }
}

void access_set_key(struct request *r, const struct digest *key, struct str client_name) {
    if (!r->access) {
        return;
    }
    if (client_name.len) {
        copy(r->access->key, sizeof r->access->key, client_name);
        return;
    }
    for (unsigned i = 0; i < KEY_SHOWN; i++) {
        snprintf(r->access->key + 2 * (size_t)i, 3, "%02x", key->bytes[i]);
    }
}

void access_set_status(struct request *r, int status) {
    if (r->access) {
        r->access->status = status;
    }
}

void access_add_bytes(struct request *r, size_t in, size_t out) {
    if (r->access) {
        r->access->bytes_in += in;
        r->access->bytes_out += out;
    }
}

struct trail *access_trail(struct request *r) {
    if (!r->access) {
        return NULL;
    }
    trail_unref(r->access->trail);
    r->access->trail = trail_create();
    return trail_ref(r->access->trail);
}

// ---- the line

static void put_digits(struct out *o, unsigned n, unsigned digits) {
    char text[8];
    for (unsigned i = digits; i-- > 0; n /= 10) {
        text[i] = (char)('0' + n % 10);
    }
    put(o, str_from(text, digits));
}

static void put_time(struct out *o, struct worker *w) {
    uint64_t now_ms = clock_unix_ms();
    time_t second = (time_t)(now_ms / 1000);
    if (second != w->logged_second) {
        struct tm utc;
        w->logged_second = second;
        strftime(w->logged, sizeof w->logged, "%Y-%m-%dT%H:%M:%S", gmtime_r(&second, &utc));
    }
    put_text(o, "{\"time\":\"");
    put(o, str_c(w->logged));
    put_text(o, ".");
    put_digits(o, (unsigned)(now_ms % 1000), 3);
    put_text(o, "Z\"");
}

// `member` is its name as it is written: ,"name":
static void put_name(struct out *o, struct str member, const char *value) {
    put(o, member);
    put_json_or_null(o, *value ? value : NULL);
}

static void put_number(struct out *o, struct str member, uint64_t value) {
    put(o, member);
    put_u64(o, value);
}

// Of a client that left before there was one: none.
static void put_status(struct out *o, int status) {
    if (status) {
        put_number(o, STR(",\"status\":"), (uint64_t)status);
    } else {
        put_text(o, ",\"status\":null");
    }
}

static void put_ms(struct out *o, struct str member, bool known, uint64_t ns) {
    put(o, member);
    if (known) {
        put_u64(o, ns / 1000000);
        put_text(o, ".");
        put_digits(o, (unsigned)(ns / 1000 % 1000), 3);
    } else {
        put_text(o, "null");
    }
}

static void put_bool(struct out *o, struct str member, bool value) {
    put(o, member);
    put(o, value ? STR("true") : STR("false"));
}

static void put_path(struct out *o, const struct request *r) {
    struct str path = str_c(r->access->path);
    if (r->route && r->route->below && r->route->by_id) {
        size_t all = str_search(path, r->route->path) + r->route->path.len + ID_SHOWN;
        if (path.len > all) {
            put_text(o, ",\"path\":\"");
            put_escaped(o, str_first(path, all));
            put_text(o, "...\"");
            return;
        }
    }
    put_name(o, STR(",\"path\":"), path.ptr);
}

static void put_peer(struct out *o, const struct address *peer) {
    char text[ADDRESS_TEXT] = "";
    if (peer->len && peer->sa.sa_family == AF_INET) { // mostly
        const unsigned char *bytes = (const unsigned char *)&peer->v4.sin_addr;
        for (unsigned i = 0; i < 4; i++) {
            put(o, i ? STR(".") : STR(",\"client\":\""));
            put_u64(o, bytes[i]);
        }
        put_text(o, "\"");
        return;
    }
    if (peer->len) {
        address_format(peer, text);
        *strrchr(text, ':') = '\0'; // the port is the system's choice
    }
    put_name(o, STR(",\"client\":"), text);
}

static void put_call(struct out *o, const struct trail *t) {
    static const struct trail none = {0};
    t = t ? t : &none;
    put_name(o, STR(",\"upstream\":"), t->upstream);
    put_number(o, STR(",\"attempts\":"), t->attempts);
    put_ms(o, STR(",\"queued_ms\":"), t->attempts || t->queued_ns, t->queued_ns);
    put_ms(o, STR(",\"upstream_ms\":"), t->answered_ns, t->upstream_ns);
    put_ms(o, STR(",\"thaw_ms\":"), t->attempts, t->own_ns);
    put_name(o, STR(",\"trace\":"), t->trace);
}

static uint64_t now_ns(const struct request *r) {
    struct clock *clock = r->worker->loop.clock;
    return clock->now_ns(clock);
}

static void put_line(struct out *o, struct request *r) {
    const struct access *a = r->access;
    char id[REQUEST_ID_MAX];
    put_time(o, r->worker);
    put_text(o, ",\"id\":");
    put_json(o, request_id(r, id));
    put_name(o, STR(",\"method\":"), a->method == METHOD_OTHER ? "" : method_name(a->method));
    put_path(o, r);
    put_name(o, STR(",\"model\":"), a->model);
    put_peer(o, &a->peer);
    put_name(o, STR(",\"key\":"), a->key);
    put_status(o, a->status);
    put_name(o, STR(",\"outcome\":"), outcome_name(r->outcome));
    put_bool(o, STR(",\"stream\":"), r->streams);
    put_bool(o, STR(",\"cut\":"), r->state == REQUEST_RELAYING && r->head_sent && r->outcome != OUTCOME_COMPLETE);
    put_number(o, STR(",\"bytes_in\":"), a->bytes_in);
    put_number(o, STR(",\"bytes_out\":"), a->bytes_out);
    put_ms(o, STR(",\"ms\":"), true, now_ns(r) - a->begun_ns);
    put_call(o, a->trail);
    put_text(o, "}\n");
}

void access_end(struct request *r, bool written) {
    struct access *a = r->access;
    if (a->trail && a->trail->answered_ns && !a->trail->settled) { // it ends while it is sent on
        a->trail->own_ns += now_ns(r) - r->worker->loop.now_ns;
    }
    if (written) {
        struct buf line;
        buf_init(&line, LINE_MAX);
        struct out o = {&line, buf_reserve(&line, LINE_MOSTLY)};
        put_line(&o, r);
        if (o.e == OK) {
            (void)sink_put(r->worker->options.access, buf_str(&line)); // it counts what it drops
        }
        buf_finish(&line);
    }
    trail_unref(a->trail);
    free(a);
    r->access = NULL;
}
