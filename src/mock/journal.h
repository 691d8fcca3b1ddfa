// SPDX-License-Identifier: MIT
// What really happened to the last calls: the ground truth that a client's own measurements are held against.
// A ring of records, oldest first, each made when its call arrives. A call knows its record by id; what is told of
// a call whose record was overwritten meanwhile is dropped, but the counts stay right.
#pragma once
#include "mock/capacity.h"
#include "llm/json.h"

enum { JOURNAL_NAMES = 42, JOURNAL_SESSION = 12, JOURNAL_STATUSES = 600 };

enum journal_end {
    END_NONE,  // in flight
    END_WHOLE, // the last byte was handed to the connection
    END_CUT,   // the mock broke it off
    END_GONE,  // the client left before
};

struct journal_record {
    uint64_t id;         // from 1; 0: never used
    uint64_t arrival_ns; // of the head; monotonic, as all times here; 0 where it has not happened
    uint64_t service_start_ns;
    uint64_t service_end_ns; // its seat was free again: at its end, but for a lock that is held for a part of it
    uint64_t first_byte_ns;
    uint64_t end_ns;
    uint64_t latency_us; // as drawn, with the prefill: until the whole answer, or until a stream's first token
    uint64_t work_us;    // as drawn: until the last byte
    uint64_t nonce;      // base/nonce.h: which call of a prober it was made for; 0: unknown
    const char *path;    // constant
    unsigned tokens;     // sent
    unsigned seat;       // 0: none
    short status;        // 0: not answered yet
    unsigned char end;   // enum journal_end
    bool stream;
    unsigned char model_len;
    unsigned char session_len;
    char names[JOURNAL_NAMES]; // the model's, then the session's; what does not fit is cut off
};

struct journal {
    struct journal_record *ring; // made at the first arrival
    size_t room;
    uint64_t last;  // id
    uint64_t first; // that is still told of
    uint64_t calls; // since the last journal_reset, as all that follow
    uint64_t in_flight;
    uint64_t at_most; // were in flight at once
    uint64_t ended[END_GONE + 1];
    uint64_t by_status[JOURNAL_STATUSES];
    const struct capacity *capacity; // whose counts belong to the others
};

void journal_init(struct journal *j, size_t room, const struct capacity *capacity);
void journal_finish(struct journal *j);
// Forgets what was; calls that are in flight go on, their records are not told of.
void journal_reset(struct journal *j);

// A call arrived, and is in flight until journal_ended; returns its id.
uint64_t journal_arrived(struct journal *j, const char *path, uint64_t now_ns);
void journal_asked(struct journal *j, uint64_t id, struct str model, struct str session, bool stream);
void journal_nonce(struct journal *j, uint64_t id, uint64_t nonce);
void journal_drawn(struct journal *j, uint64_t id, uint64_t latency_us, uint64_t work_us);
void journal_service(struct journal *j, uint64_t id, unsigned seat, uint64_t now_ns);
// Before its end, that is.
void journal_service_over(struct journal *j, uint64_t id, uint64_t now_ns);
void journal_first_byte(struct journal *j, uint64_t id, int status, uint64_t now_ns);
void journal_ended(struct journal *j, uint64_t id, enum journal_end end, unsigned tokens, uint64_t now_ns);

// The first id from `from` on that is still kept; j->last + 1 when there is none.
uint64_t journal_from(const struct journal *j, uint64_t from);
// The call's record; NULL if it was overwritten.
const struct journal_record *journal_find(const struct journal *j, uint64_t id);
static inline struct str journal_model(const struct journal_record *r) { return str_from(r->names, r->model_len); }
// One JSON line; `id` is kept.
void journal_put(const struct journal *j, uint64_t id, struct out *o);
// One JSON line of the counts.
void journal_put_counts(const struct journal *j, struct out *o);
