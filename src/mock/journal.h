// SPDX-License-Identifier: MIT
// What really happened to the last calls: the ground truth that a client's own measurements are held against.
// A ring of records, oldest first, each made when its call arrives. A call knows its record by id; what is told of
// a call whose record was overwritten meanwhile is dropped, but the counts stay right.
#pragma once
#include "mock/out.h"

enum { JOURNAL_MODEL = 76 }; // bytes of the model's name that are kept

struct journal_record {
    uint64_t id;         // from 1; 0: never used
    uint64_t arrival_ns; // of the head; monotonic, as all times here; 0 where it has not happened
    uint64_t first_byte_ns;
    uint64_t last_byte_ns;
    uint64_t client_gone_ns;
    const char *path; // constant
    short status;     // 0: not answered yet
    bool stream;
    unsigned char model_len;
    char model[JOURNAL_MODEL];
};

struct journal {
    struct journal_record *ring; // made at the first arrival
    size_t room;
    uint64_t calls; // also the last id
    uint64_t in_flight;
    uint64_t at_most; // were in flight at once
};

void journal_init(struct journal *j, size_t room);
void journal_finish(struct journal *j);

// A call arrived, and is in flight until journal_ended; returns its id.
uint64_t journal_arrived(struct journal *j, const char *path, uint64_t now_ns);
void journal_asked(struct journal *j, uint64_t id, struct str model, bool stream);
void journal_first_byte(struct journal *j, uint64_t id, int status, uint64_t now_ns);
// The last byte was handed to the connection, or (gone) the client left before.
void journal_ended(struct journal *j, uint64_t id, bool gone, uint64_t now_ns);

// The first id from `from` on that is still kept; j->calls + 1 when there is none.
uint64_t journal_from(const struct journal *j, uint64_t from);
// One JSON line; `id` is kept.
void journal_put(const struct journal *j, uint64_t id, struct out *o);
