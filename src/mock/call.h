// SPDX-License-Identifier: MIT
// Inside the mock: a call, of a model or for a page, from its head to its end. mock.c makes it of a request and says what
// it is answered by; from there call.c sees it through. Private.
#pragma once
#include "mock/answer.h"
#include "mock/ask.h"
#include "mock/draw.h"
#include "mock/inside.h"

struct mock {
    struct loop *loop;
    struct mock_options options;
    struct http_server server;
    struct journal journal;
    struct capacity *capacity;
    struct draw_counts seen; // calls, by what tells them apart
    struct deck *deck;       // NULL: answers are made up
    struct list calls;
    uint64_t accepted;  // connections
    struct buf scratch; // what is being written, for the time of one callback
    struct buf text;    // what is being read
};

// An endpoint.
struct route {
    struct str path;    // is reached without the /v1 as well
    enum method method; // GET includes HEAD
    bool below;         // the path's beginning; what follows names something
    ask_reader *read;   // a model's call: what the body asks for
    const struct script *whole;
    const struct script *stream;
};

enum call_state { CALL_ARRIVING, CALL_QUEUED, CALL_WAITING, CALL_SENDING, CALL_OVER };

struct call {
    struct mock *mock;
    struct xchg *x;
    struct list node; // in mock->calls
    const struct route *route;
    const struct script *script;
    const struct head *head; // of the request, until its body was read
    uint64_t id;             // in the journal; 0: not a model's call
    union {
        struct claim claim; // its timer is the call's only one, its start that of the answer's times
        struct grave grave; // OVER
    };
    struct buf held;
    struct answer answer;
    struct fault fault;
    enum call_state state;
    short refusal;  // a status that was clear from the head
    bool delayed;   // its client did not take what was due
    char payload[]; // what answer.model and answer.text point to
};

// What it is answered by; it may be over, and is not to be touched, when they return.
// At once, whatever the capacity: a page, or an error by name.
void call_answer(struct call *c, const struct script *script);
// `message` and `param` are used before this returns.
void call_refuse(struct call *c, int status, struct str message, const char *param);
// When its turn comes, and after the time that it takes.
void call_queue(struct call *c, const struct script *script);
// SENDING: there may be room again.
void call_go_on(struct call *c);
void call_end(struct call *c, enum journal_end end);

// What its timer and the capacity call.
void call_on_timer(struct timer *timer);
extern const struct capacity_events call_capacity_events;

// Asserts what holds in its state.
void call_check(const struct call *c);

// Head and first bytes of an answer. Whatever of the body is in the mock's scratch buffer afterwards was not sent yet.
// id == 0, refused == NULL: it is no call's.
MUSTCHECK enum err call_send_head(struct mock *mock, struct xchg *x, const struct script *script, struct answer *a,
                                  uint64_t id, const struct route *refused, const struct fault *fault);
