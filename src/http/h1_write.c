// SPDX-License-Identifier: MIT
// Heads in wire form. What is sent is always built from parts, never copied from what was received.
#include "http/h1.h"

static char *put(char *out, struct str s) {
    if (s.len) { // an empty one may have no pointer
        memcpy(out, s.ptr, s.len);
    }
    return out + s.len;
}

// The longest start line, framing and Connection fields beside the parts that are counted.
enum { FIXED_ROOM = 160 };

static enum err reserve_head(struct buf *out, const struct head *head) {
    size_t n = FIXED_ROOM + head->method_name.len + head->target.len + head->authority.len;
    for (unsigned i = 0; i < head->fields.n; i++) {
        n += head->fields.v[i].name.len + head->fields.v[i].value.len + 4;
    }
    return buf_reserve(out, n);
}

static char *put_fields(char *out, const struct fields *fields) {
    for (unsigned i = 0; i < fields->n; i++) {
        out = put(out, fields->v[i].name);
        out = put(out, STR(": "));
        out = put(out, fields->v[i].value);
        out = put(out, STR("\r\n"));
    }
    return out;
}

static char *put_length(char *out, int64_t length) {
    out = put(out, STR("Content-Length: "));
    out = format_u64(out, (uint64_t)length);
    return put(out, STR("\r\n"));
}

static char *put_end(char *out, bool close) { return put(out, close ? STR("Connection: close\r\n\r\n") : STR("\r\n")); }

enum err h1_write_request(struct buf *out, const struct head *head, bool close, enum h1_framing *framing) {
    enum err e = reserve_head(out, head);
    if (e != OK) {
        return e;
    }
    char *start = buf_tail(out);
    char *at = put(start, head->method_name);
    at = put(at, STR(" "));
    at = put(at, head->target);
    at = put(at, STR(" HTTP/1.1\r\nHost: "));
    at = put(at, head->authority);
    at = put(at, STR("\r\n"));
    at = put_fields(at, &head->fields);
    if (head->body_len == BODY_UNKNOWN) {
        at = put(at, STR("Transfer-Encoding: chunked\r\n"));
        *framing = H1_CHUNKED;
    } else if (head->body_len > 0 || method_has_body(head->method)) {
        at = put_length(at, head->body_len);
        *framing = head->body_len ? H1_LENGTH : H1_NO_BODY;
    } else {
        *framing = H1_NO_BODY;
    }
    at = put_end(at, close);
    buf_added(out, (size_t)(at - start));
    return OK;
}

static char *put_status(char *out, int status) {
    out = put(out, STR("HTTP/1.1 "));
    out = format_u64(out, (uint64_t)status);
    out = put(out, STR(" "));
    out = put(out, str_c(status_reason(status)));
    return put(out, STR("\r\n"));
}

enum err h1_write_response(struct buf *out, const struct head *head, bool to_head, unsigned char minor, bool close,
                           enum h1_framing *framing) {
    enum err e = reserve_head(out, head);
    if (e != OK) {
        return e;
    }
    char *start = buf_tail(out);
    char *at = put_status(start, head->status);
    at = put_fields(at, &head->fields);
    if (head->status < 200 || head->status == 204) { // neither framing field (RFC 9110 8.6, RFC 9112 6.1)
        *framing = H1_NO_BODY;
        close = close && head->status >= 200;
    } else if (head->body_len >= 0) {
        at = put_length(at, head->body_len);
        *framing = to_head || head->status == 304 || head->body_len == 0 ? H1_NO_BODY : H1_LENGTH;
    } else if (to_head || head->status == 304) {
        *framing = H1_NO_BODY;
    } else if (minor > 0) {
        at = put(at, STR("Transfer-Encoding: chunked\r\n"));
        *framing = H1_CHUNKED;
    } else {
        *framing = H1_UNTIL_CLOSE;
        close = true;
    }
    at = put_end(at, close);
    buf_added(out, (size_t)(at - start));
    return OK;
}
