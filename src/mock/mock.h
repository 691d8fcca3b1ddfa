// SPDX-License-Identifier: MIT
// The slow upstream, without its bill: OpenAI's API with set latencies, on one loop. Stands on http/, so that it is
// reached by a listener (thaw mock) or in memory (thaw serve --mock, flow tests) alike.
#pragma once
#include "http/server.h"
#include "mock/deck.h"
#include "mock/faults.h"

struct mock;

struct mock_options {
    uint64_t latency_ms; // of a whole answer that is not streamed; of a stream's first token
    uint64_t token_ms;   // between tokens of a stream
    unsigned tokens;     // events of a stream with a word each; 0: as many as the echo has words
    uint64_t seed;       // of what is random
    struct fault_rate faults[FAULT_RATES_MAX];
    size_t fault_count;
    const struct deck_options *deck; // models' calls are played or relayed instead of made up; NULL: they are not
    size_t journal_calls;            // how many of the last calls the journal keeps; 0: 100,000
};

// Starts to answer on the loop. `limits` of the HTTP server inside.
struct mock *mock_create(struct loop *loop, const struct mock_options *options);
// Breaks off what is open.
void mock_destroy(struct mock *mock);
// Serves a connection from a listener. As http_server_accept.
void mock_accept(struct mock *mock, struct conn *take_conn);
// The near end of a new connection in memory; `context` is the mock (the form that struct origin wants).
struct conn *mock_connect(void *context);
