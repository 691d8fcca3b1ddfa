// SPDX-License-Identifier: MIT
// Instead of making answers up: those of a real upstream, relayed and recorded, or played again from recordings with
// their bytes and times. With both, what there is no recording of is asked for upstream, and known from then on.
//
// A recording is written while the answer passes by: no call needs more memory than its request and one read of its
// answer. Only answers that came to their end, or were broken off by the upstream, are kept.
#pragma once
#include "http/xchg.h"
#include "mock/journal.h"
#include "mock/library.h"
#include "net/dial.h"

struct deck_options {
    struct library *library; // to play from; NULL: nothing is
    double speed;            // 2: twice as fast; 0: without waiting

    const char *folder; // to record into; NULL: nothing is, and the rest means nothing
    struct str host;
    uint16_t port;
    struct tls_client *tls; // NULL: plain
    struct str authority;   // what Host says
    struct str base_path;   // takes the place of /v1; may be empty
};

struct deck;
// What the options point to outlives it.
struct deck *deck_create(struct loop *loop, const struct deck_options *options, struct journal *journal);
void deck_destroy(struct deck *deck); // NULL: nothing; breaks off what is open
// Takes over an exchange in its server's on_request. `shown`: the path for the journal, constant.
void deck_request(struct deck *deck, struct xchg *x, struct head *head, const char *shown);
