// SPDX-License-Identifier: MIT
// The slow upstream, without its bill: OpenAI's API with set latencies and capacity, on one loop. Stands on http/, so
// that it is reached by a listener (thaw mock) or in memory (thaw serve --mock, flow tests) alike.
#pragma once
#include "http/server.h"
#include "mock/capacity.h"
#include "mock/deck.h"
#include "mock/faults.h"
#include "mock/latency.h"

struct mock;
struct buf;

// How long a call takes, once it is in service.
struct mock_times {
    struct latency latency; // until an answer that is not streamed leaves, and a stream's first token
    struct latency first;   // has_first: a stream's first token, instead
    struct latency between; // two tokens of a stream
    bool has_first;
    bool as_stream;       // an answer that is not streamed takes as long as the stream of it (latency is not used)
    unsigned stall_after; // so many tokens of a stream it pauses; 0: never
    unsigned stall_ms;
    uint64_t prefill_us; // for each token of the prompt, before anything else
};

enum { MOCK_TOKENS_MAX = 1000 * 1000 };

struct mock_options {        // zeroed: everything at once
    struct mock_times times; // drawn by `seed`; files in it are the caller's
    struct capacity_options capacity;
    uint64_t seed;
    uint64_t numbers_from; // what the numbers in its ids are added to: several behind one door differ
    unsigned tokens;       // events of a stream with a word each; 0: as many as the echo has words
    struct fault_rate faults[FAULT_RATES_MAX];
    size_t fault_count;
    const struct deck_options *deck; // models' calls are played or relayed instead of made up; NULL: they are not
    size_t journal_calls;            // how many of the last calls the journal keeps; 0: 100,000
};

// As the options --stall and --prefill have them: 3s@20, 1ms. NULL: understood, else what is wanted.
const char *mock_parse_stall(struct str text, struct mock_times *times);
const char *mock_parse_prefill(struct str text, struct mock_times *times);

// Starts to answer on the loop. `limits` of the HTTP server inside.
struct mock *mock_create(struct loop *loop, const struct mock_options *options);
// Calls that come from now on have this constant latency (mock_times).
void mock_set_latency(struct mock *mock, uint64_t ms);
// Breaks off what is open.
void mock_destroy(struct mock *mock);
// Serves a connection from a listener. As http_server_accept.
void mock_accept(struct mock *mock, struct conn *take_conn);
// The near end of a new connection in memory; `context` is the mock (the form that struct origin wants).
struct conn *mock_connect(void *context);
