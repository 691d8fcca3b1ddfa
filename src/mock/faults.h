// SPDX-License-Identifier: MIT
// What can go wrong with an answer, on purpose. A fault has a name and some have a number: `429`, `cut-7`. It is asked
// for by the model's name (mock-cut-7), by a field of the request (X-Mock-Fault: cut-7), or comes by a rate.
//
//   400 ... 599         that status, with Retry-After (429, 503, 529) and the fields that tell of rate limits
//   hang, hang-head     nothing ever comes; nothing behind the head
//   hang-N              nothing behind N tokens, as below
//   close-before-head   the connection is closed (reset) instead of an answer
//   reset-before-head
//   garbage             bytes that are no HTTP, instead of an answer
//   cut-N, reset-N      after N tokens the connection is closed (reset): HTTP tells that something is missing
//   end-N               after N tokens all ends as if that were all: only the content tells
//   error-N             the same, and at a stream's end an event that tells of an error
//   drip, drip-N        a byte each N ms (10)
//   malformed-chunk     after a token comes a chunk without a length
//   wrong-length        16 bytes fewer come than Content-Length says
//   wrong-length-short  16 bytes more come
//   invalid-json        a body, or an event, ends in the middle; nothing comes behind it, HTTP is content
//   utf8-cut            the same, in the middle of a character
//   utf8-split          every character of several bytes comes in two pieces, a moment apart
//   1xx-storm, -N       N interim answers (103, 102, 100 by turns; 100) before the head
//   header-bomb, -N     a head of N KiB (64)
//   empty, html         status 200 without a body, with a page
//   close-on-accept     a connection is closed before anything is read; by rate only
//
// Tokens are counted in streams and in whole answers alike; behind 0 of them there is only the head, and an answer that
// has fewer ends behind its last one.
#pragma once
#include "base/fields.h"

enum fault_kind {
    FAULT_NONE,
    FAULT_STATUS,
    FAULT_HANG,
    FAULT_HANG_AT,
    FAULT_CLOSE,
    FAULT_RESET,
    FAULT_GARBAGE,
    FAULT_CUT_AT,
    FAULT_RESET_AT,
    FAULT_END_AT,
    FAULT_ERROR_AT,
    FAULT_DRIP,
    FAULT_CHUNK,
    FAULT_LONG,
    FAULT_SHORT,
    FAULT_JSON,
    FAULT_UTF8_CUT,
    FAULT_UTF8_SPLIT,
    FAULT_INTERIM,
    FAULT_HEAD,
    FAULT_EMPTY,
    FAULT_HTML,
    FAULT_ACCEPT,
};

struct fault { // zeroed: none
    enum fault_kind kind;
    unsigned n; // status, tokens, ms, times, KiB
};

// A fault by its name; `none` is one, close-on-accept is not. False: there is none of that name.
bool fault_parse(struct str name, struct fault *fault);
// An example of each, for messages and lists; NULL behind the last.
const char *fault_example(size_t i);

enum { FAULT_RATES_MAX = 16, FAULT_FIELDS = 200, FAULT_BYTES = 16 };

struct fault_rate {
    struct fault fault;
    double share; // of the calls, or connections, that have it
};
// "429:5%", close-on-accept as well. NULL: understood, else what is wanted instead, for people.
const char *fault_parse_rate(struct str text, struct fault_rate *rate);
// Which fault a call (or a connection: `accept`) has, by a number drawn for it between 0 and 1. Shares add up.
struct fault fault_by_rate(const struct fault_rate *rates, size_t n, bool accept, double chance);

// ---- what the mock asks while it obeys

// Nothing of an answer is sent.
bool fault_before_head(const struct fault *f);
// Something else happens where the answer halts, or is over: its end is not told.
bool fault_at_end(const struct fault *f);
// After so many tokens it halts; UINT32_MAX: it does not.
unsigned fault_halt(const struct fault *f);
// Of bytes that are to be sent: how many go at once, and how long the rest waits. All, but for drip and utf8-split.
bool fault_in_portions(const struct fault *f);
size_t fault_portion(const struct fault *f, struct str bytes);
uint64_t fault_pause_ms(const struct fault *f);
// Adds what makes a head too large; `f` has room for FAULT_FIELDS.
void fault_fields(const struct fault *fault, struct fields *f);
// What is written below HTTP before the connection is closed; empty: nothing.
struct str fault_raw(const struct fault *f);
