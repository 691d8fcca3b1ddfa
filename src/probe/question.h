// SPDX-License-Identifier: MIT
// What every call of a probe asks, and what makes each of them another one: {{nonce}} and {{user}} are filled in
// wherever they stand in the path, the fields and the body, and a field X-Thaw-Probe goes along. Where there is no
// {{nonce}}, one is put where it changes the least and caches and joining still see another request: at the end of the
// prompt in a JSON body, or else in the query.
#pragma once
#include "base/buf.h"
#include "base/fields.h"
#include "base/nonce.h"
#include "http/shot.h"

enum { QUESTION_CAP = 64 * 1024 * 1024, QUESTION_FIELDS = 64 };

struct question { // all borrowed
    struct str method;
    struct str target;    // path and query
    struct str authority; // what Host says
    struct fields fields; // as the user gave them
    struct str body;
    bool has_body;
    bool as_is;         // no nonce is put where none was asked for; the field goes along all the same
    struct str session; // the name of the session's cookie: each user gets one of his own; empty: none is made
};

// Who asks.
struct asker {
    unsigned user;     // {{user}}
    uint64_t nonce;    // {{nonce}}
    struct str cookie; // "name=value" to go along; empty: none
};

// NULL: fine. Else why it cannot be sent, for people.
const char *question_check(const struct question *q);
// Makes the request: *head is the caller's to free, its body is appended.
MUSTCHECK enum err question_ask(const struct question *q, const struct asker *asker, struct head **head,
                                struct buf *body);
