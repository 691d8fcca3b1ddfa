// SPDX-License-Identifier: MIT
#include "gateway/asked.h"

#include <assert.h>
#include <inttypes.h>

#include "base/mem.h"
#include "gateway/call.h"
#include "gateway/trace.h"

enum { HELD_MAX = 256 * 1024, PARTS = 5, SECONDS_TEXT = 32 };

// Other text in the place of a part of the body.
struct edit {
    size_t at, len;
    struct str text;
};

// The body in parts; `edits` are in order.
static unsigned apply(struct str body, const struct edit *edits, unsigned n, struct str parts[PARTS]) {
    size_t done = 0;
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++) {
        parts[count++] = str_first(str_skip(body, done), edits[i].at - done);
        parts[count++] = edits[i].text;
        done = edits[i].at + edits[i].len;
    }
    parts[count++] = str_skip(body, done);
    return count;
}

// The kept body from `skip` on, with the upstream's own name of the model in the place of the client's.
static int body_parts(const struct asked *a, const struct target *target, size_t skip, struct iovec v[PARTS]) {
    const char *model = target->model_json;
    struct edit edits[2];
    struct str parts[PARTS];
    unsigned n = 0;
    int count = 0;
    if (model && a->places.model_len) {
        edits[n++] = (struct edit){a->places.model_at, a->places.model_len, str_c(model)};
    }
    if (a->places.true_at) {
        edits[n++] = (struct edit){a->places.true_at, 4, STR("false")};
    }
    if (n == 2 && edits[1].at < edits[0].at) {
        struct edit first = edits[1];
        edits[1] = edits[0];
        edits[0] = first;
    }
    unsigned part_count = apply(buf_str(&a->body), edits, n, parts);
    for (unsigned i = 0; i < part_count; i++) {
        size_t drop = MIN(skip, parts[i].len);
        skip -= drop;
        if (parts[i].len > drop) {
            v[count++] = (struct iovec){(void *)(uintptr_t)(parts[i].ptr + drop), parts[i].len - drop};
        }
    }
    return count;
}

static size_t total(const struct iovec *v, int count) {
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        n += v[i].iov_len;
    }
    return n;
}

// The upstream's base path, then the client's target without thaw's prefix.
static struct str upstream_target(const struct setup *s, const struct upstream *upstream, struct str target) {
    struct str base = upstream->config->base_path;
    struct str rest = str_skip(target, s->config->prefix.len);
    char *room = s->target_room;
    memcpy(room, base.ptr, base.len);
    memcpy(room + base.len, rest.ptr, rest.len);
    return str_from(room, base.len + rest.len);
}

// In seconds, as the client may have written it.
static struct str format_seconds(char room[SECONDS_TEXT], uint64_t ms) {
    int n = snprintf(room, SECONDS_TEXT, "%" PRIu64 ".%03u", ms / 1000, (unsigned)(ms % 1000));
    return str_from(room, (size_t)n);
}

void asked_send_head(struct asked *a, struct setup *s, const struct target *target, uint64_t time_left_ms,
                     struct xchg *up) {
    const struct upstream *upstream = target->upstream;
    struct fields fields = worker_scratch(s->worker);
    struct iovec v[PARTS];
    char seconds[SECONDS_TEXT];
    uint32_t target_len;
    memcpy(&target_len, a->packed, sizeof target_len);
    struct str path = str_from(a->packed + sizeof target_len, target_len);
    const char *unpacked = fields_unpack(&fields, path.ptr + path.len);
    assert(unpacked); // scratch has room for what was packed from it
    (void)unpacked;
    worker_add(&fields, STR("Via"), STR("1.1 thaw"));
    if (time_left_ms) {
        worker_add(&fields, STR("X-Request-Timeout"), format_seconds(seconds, time_left_ms));
    }
    if (upstream->authorization) {
        fields_remove_flagged(&fields, FIELD_CREDENTIAL);
        worker_add(&fields, STR("Authorization"), str_c(upstream->authorization));
    }
    if (!a->streamed) {
        a->sent = 0;
    }
    struct head head = {
        .method = a->method,
        .method_name = str_c(method_name(a->method)),
        .target = upstream_target(s, upstream, path),
        .authority = str_c(upstream->authority),
        .fields = fields,
        .body_len = a->streamed ? a->body_len : (int64_t)total(v, body_parts(a, target, 0, v)),
    };
    xchg_send_head(up, &head);
}

static bool send_kept(struct asked *a, const struct target *target, struct xchg *up) {
    struct iovec v[PARTS];
    int count = body_parts(a, target, a->sent, v);
    size_t taken = xchg_sendv(up, v, count, true);
    a->sent += taken;
    return taken == total(v, count);
}

static bool send_streamed(struct asked *a, struct xchg *up) {
    struct str held = buf_str(&a->body);
    size_t taken = xchg_send(up, held, a->upload_done);
    a->uploaded = a->uploaded || taken;
    buf_consume(&a->body, taken);
    if (taken == held.len && !a->upload_done && a->owner) {
        a->owner_events->on_room(a->owner);
    }
    return taken == held.len && a->upload_done;
}

bool asked_send_body(struct asked *a, const struct target *target, struct xchg *up) {
    return a->streamed ? send_streamed(a, up) : send_kept(a, target, up);
}

// ---- beginning

static void pack(struct asked *a, struct setup *s, const struct call_request *request) {
    const struct head *head = request->head;
    struct trace trace;
    struct fields fields = worker_scratch(s->worker);
    for (unsigned i = 0; i < head->fields.n; i++) {
        worker_push(&fields, &head->fields.v[i]);
    }
    http_head_strip(&fields);
    // A key of ours opened this door and is for no other.
    fields_remove_flagged(&fields, FIELD_PRIVATE | (s->who.count ? FIELD_CREDENTIAL : 0u));
    fields_remove(&fields, FIELD_X_REQUEST_ID);
    if (request->timeout_ms) { // what is left of it goes on
        fields_remove(&fields, FIELD_X_REQUEST_TIMEOUT);
    }
    if (request->answered) {
        fields_remove(&fields, FIELD_PREFER);
    }
    if (request->plain) {
        fields_remove(&fields, FIELD_ACCEPT_ENCODING);
    }
    worker_add(&fields, STR("x-request-id"), request->request_id);
    trace_pass(&fields, s->config->trace_trust, &trace);
    if (request->take_trail) {
        memcpy(request->take_trail->trace, trace.id, sizeof trace.id);
    }
    uint32_t target_len = (uint32_t)head->target.len;
    a->packed = xmalloc(sizeof target_len + head->target.len + fields_packed_size(&fields));
    memcpy(a->packed, &target_len, sizeof target_len);
    memcpy(a->packed + sizeof target_len, head->target.ptr, head->target.len);
    fields_pack(&fields, a->packed + sizeof target_len + head->target.len);
}

static bool keep_body(struct asked *a, const struct call_request *request) {
    buf_init(&a->body, a->streamed ? HELD_MAX : MAX(request->body.len, (size_t)1));
    if (request->take_body) {
        a->body = *request->take_body;
        *request->take_body = (struct buf){.cap = a->body.cap};
        return true;
    }
    return buf_str_append(&a->body, request->body) == OK;
}

bool asked_init(struct asked *a, struct setup *s, const struct call_request *request) {
    a->method = request->head->method;
    a->streamed = !request->body_kept;
    if (a->streamed) {
        a->body_len = request->head->body_len;
        a->owner_events = request->owner_events;
        a->owner = request->owner;
    } else {
        a->places = request->places;
    }
    pack(a, s, request);
    return keep_body(a, request);
}

void asked_forget(struct asked *a) {
    mem_free(a->packed, 0);
    a->packed = NULL;
    if (!a->streamed) {
        buf_finish(&a->body);
    }
}

void asked_finish(struct asked *a) {
    asked_forget(a);
    buf_finish(&a->body);
}
