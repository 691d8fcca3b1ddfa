// SPDX-License-Identifier: MIT
// The mock's journal as ground truth: which call was served from when to when, and on which seat. The mock is the
// upstream of the app that is probed, or the target itself.
//
// A record belongs to the call whose nonce it has (base/nonce.h; it travels in the prompt). Where no record has one and
// there are as many records as calls, the k-th that ended belongs to the k-th call that ended: an app answers when its
// upstream has. Otherwise nothing is known, and nothing is filled in.
#pragma once
#include "probe/evidence.h"
#include "http/shot.h"

enum { PROBE_SEATS_MOST = 1000 * 1000 }; // of a mock; what claims to have more has none

struct probe_record {
    uint64_t id;
    uint64_t arrival_ns, start_ns, end_ns; // the mock's monotonic clock; start and end of its service
    uint64_t nonce;                        // 0: none
    unsigned seat;                         // 0: none
};

struct probe_journal {
    struct aim aim;
    struct str authority;
    uint64_t timeout_ms;
    // private
    uint64_t since; // the last id that was seen
    struct shot shot;
    struct buf answer;
    void (*done)(void *owner, enum err e);
    void *owner;
};

// The fields above `private` are set, others zero. Asks for what is new; `done`, never from inside, when it is there:
// ERR_PROTOCOL: it does not answer as the mock does.
void probe_journal_fetch(struct probe_journal *j, void (*done)(void *owner, enum err e), void *owner);
// Fills in seen_* of the trial's calls from what was fetched last; returns how many calls got theirs. `start_ns` is the
// probe's start on our monotonic clock, which is the mock's, too, on the same machine; elsewhere the difference is taken
// from the calls themselves: none arrived before it was sent. Without a trial: all that is there was before.
unsigned probe_journal_match(struct probe_journal *j, uint64_t start_ns, struct trial *t);
void probe_journal_close(struct probe_journal *j); // accepts zeroed

// In parts, for tests. The records of a journal's lines, which are the caller's (free); *last is the highest id.
unsigned probe_journal_parse(struct str lines, struct probe_record **records, uint64_t *last);
unsigned probe_journal_apply(struct probe_record *records, unsigned n, uint64_t start_ns, struct trial *t);
