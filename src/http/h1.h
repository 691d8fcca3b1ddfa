// SPDX-License-Identifier: MIT
// HTTP/1.1's grammar (RFC 9112), both sides, no I/O: bytes in, a head and body bytes out. Lines and chunks are told apart
// in h1_head.c and chunked.c; what a head must hold to is here. All of it strict: an intermediary that reads a message
// differently from its neighbour is how requests are smuggled (facts A01-A19).
#pragma once
#include "http/msg.h"

enum h1_side { H1_REQUEST, H1_RESPONSE };

struct h1; // parses one message after another; owned by the connection only while a message is arriving

struct h1 *h1_create(enum h1_side side, const struct http_limits *limits);
void h1_destroy(struct h1 *p);
// Makes a used parser ready for another message of its side; cheap.
void h1_reset(struct h1 *p);
// Response side: the message answers a HEAD request and has no body whatever its fields say.
void h1_expect_no_body(struct h1 *p);

struct h1_result {
    bool head_done;  // the head was completed by this feed: h1_head
    struct str body; // decoded body bytes that this feed brought, in one piece
    bool end;        // the message is complete
    bool keep_alive; // with end: the connection may carry another message
    size_t used;     // bytes of the input that belong to this message
};

// Parses up to the end of the message or of the bytes. Decodes chunked bodies in place: `bytes` is written to.
// OK: *r tells; more bytes are wanted unless r->end. Any error is final for the connection:
// ERR_FRAMING, ERR_INVALID, ERR_HEAD_FULL, ERR_TARGET_LONG, ERR_METHOD, ERR_CODING, ERR_VERSION, ERR_EXPECT,
// ERR_NOMEM; ERR_PROTOCOL for everything that is wrong with an answer.
MUSTCHECK enum err h1_feed(struct h1 *p, char *bytes, size_t n, struct h1_result *r);
// The peer closed: OK with r->end if that ends the message properly (RFC 9112 section 6.3), ERR_CUT if not,
// ERR_EOF if no message had begun.
MUSTCHECK enum err h1_feed_eof(struct h1 *p, struct h1_result *r);
// Has any byte of the current message been seen?
bool h1_begun(const struct h1 *p);
// After head_done, until the message's end has been fed: the head. Valid as long as the bytes it came in; if the
// message is to outlive them, h1_keep_head copies it (ERR_NOMEM).
struct head *h1_head(struct h1 *p);
MUSTCHECK enum err h1_keep_head(struct h1 *p);
// What was wrong, for people: constant text, it never quotes what was sent.
const char *h1_problem(const struct h1 *p);

// How a sent body is delimited.
enum h1_framing {
    H1_NO_BODY,
    H1_LENGTH,
    H1_CHUNKED,
    H1_UNTIL_CLOSE, // to HTTP/1.0 clients
};

// Append a head in wire form, re-serialised from its parts. Fields must have been through http_head_strip.
// `close` adds Connection: close.
MUSTCHECK enum err h1_write_request(struct buf *out, const struct head *head, bool close, enum h1_framing *framing);
MUSTCHECK enum err h1_write_response(struct buf *out, const struct head *head, bool to_head, unsigned char minor,
                                     bool close, enum h1_framing *framing);
