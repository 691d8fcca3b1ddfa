// SPDX-License-Identifier: MIT
// One call as a text file that people can read and edit: what was asked, and what came back when.
//
//   thaw-recording 1
//   # anything
//   request POST /v1/chat/completions
//   body 3c1d...            SHA-256 of the request's body (library.h says how), or * for any
//   status 200 @812.000250  milliseconds since the request was complete, here and below
//   length 1024             what Content-Length said; left out when there was none
//   Content-Type: text/event-stream
//
//   @812.000250             a piece of the body, as it came in one read
//   |data: {"id": ...       a line of it, with the line's end
//   |
//   >data: [DO              a line without one
//   end @1200.5             or cut: it was broken off
//
// Bytes that are no UTF-8, and control characters, are written \xHH; `\x` itself is \x5cx. There are no fields that
// belong to one connection, and no credentials: of the request's head nothing is kept at all.
#pragma once
#include "base/fields.h"
#include "llm/json.h"
#include "net/digest.h"

enum { RECORDING_FIELDS_MAX = 100 };

struct recording { // borrows from its text
    struct str method;
    struct str target;
    struct digest body; // of the request's; unless:
    bool any_body;
    bool whole; // it ends with `end`
    int status;
    uint64_t head_ns;
    int64_t length; // -1: none
    uint64_t bytes; // of all pieces
    struct str fields;
    struct str pieces;
};

// Reads and checks all of a file. ERR_INVALID: *line (from 1) has what is wrong with it.
MUSTCHECK enum err recording_parse(struct str text, struct recording *r, unsigned *line, const char **problem);
// Takes a field off the front of *fields; false behind the last.
bool recording_field(struct str *fields, struct str *name, struct str *value);
enum recording_part { RECORDING_PIECE, RECORDING_END, RECORDING_CUT };
// Takes a piece, or the end, off the front of *pieces.
enum recording_part recording_next(struct str *pieces, uint64_t *at_ns, struct str *lines);
// Appends the bytes that the lines of a piece stand for.
MUSTCHECK enum err recording_decode(struct str lines, struct buf *out);

// Writes up to the blank line: method, target, body (any_body), status, head_ns, length of *r, and the fields.
void recording_put_head(struct out *o, const struct recording *r, const struct fields *fields);
void recording_put_piece(struct out *o, uint64_t at_ns, struct str bytes);
void recording_put_end(struct out *o, uint64_t at_ns, bool whole);
