// SPDX-License-Identifier: MIT
// An HTTP message's head, whatever version carried it, and the rules that hold for all of them (RFC 9110).
#pragma once
#include "base/buf.h"
#include "base/fields.h"

enum method {
    METHOD_OTHER,
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_PATCH,
    METHOD_OPTIONS,
    METHOD_CONNECT,
    METHOD_TRACE,
};

enum { BODY_UNKNOWN = -1 }; // as a body_len: there may be a body, its length is not known beforehand

// Limits on what a peer may send; facts/faults.md section 3 has the reasons for the defaults.
struct http_limits {
    size_t head_bytes; // of a head, and of a message's trailers together with its chunk extensions
    unsigned fields;
    size_t target_bytes;
};
#define HTTP_LIMITS_DEFAULT ((struct http_limits){.head_bytes = 32 * 1024, .fields = 100, .target_bytes = 8 * 1024})

// All strings are borrowed. Fields never include framing or hop-by-hop fields of the connection they came
// from once http_head_strip has been over them; a codec adds its own when it writes.
struct head {
    enum method method; // request
    struct str method_name;
    struct str target;    // request: path and query as sent, starting with '/', or "*"
    struct str authority; // request: host[:port] by RFC 9112 section 3.3
    int status;           // response: 100-599
    struct fields fields; // in order
    int64_t body_len;     // bytes, or BODY_UNKNOWN; for answers to HEAD and for 304 what Content-Length says
    bool expect_continue; // request: the client waits for 100 before it sends the body
    unsigned char minor;  // HTTP/1.x as received
};

enum method method_parse(struct str name);
const char *method_name(enum method m);
// Is it one of the IANA registry's methods (RFC 9110 section 16.1.1)?
bool method_registered(enum method m, struct str name);
// Does a request without a length announce that it has no body (RFC 9110 section 8.6)?
bool method_has_body(enum method m);
// "Not Found"; never NULL.
const char *status_reason(int status);

// The path of a target, without the query.
static inline struct str target_path(struct str target) { return str_first(target, str_find(target, '?')); }

// Visible ASCII without a fragment, and not empty.
bool target_valid(struct str target);
// Takes hop-by-hop fields out of the array: Connection and every field it names, Keep-Alive, Proxy-Connection,
// Proxy-Authenticate, Proxy-Authorization, TE, Trailer, Transfer-Encoding, Upgrade, HTTP2-Settings, Expect, and the
// framing a codec writes itself: Content-Length, Host (RFC 9110 section 7.6.1, RFC 9113 section 8.2.2).
void http_head_strip(struct fields *fields);

// host[:port] with nothing a URL parser could read otherwise (facts A12).
bool authority_valid(struct str authority);
// Do the fields announce an event stream (WHATWG HTML, section 9.2)?
bool http_is_event_stream(const struct fields *fields);
// True if the comma-separated list contains the token, without case.
bool list_has_token(struct str list, struct str token);
