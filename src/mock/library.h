// SPDX-License-Identifier: MIT
// The recordings of a folder, in memory: its files that end in .rec. A request is answered by the recording with the same
// method, the same path and query, and the same body. Bodies are the same when they are the same JSON, whatever its
// spaces and the order of its members; what is no JSON (or nests deeper than 64) has to be the same to the byte.
// Parameters of a query that are credentials do not count, and are not written down.
#pragma once
#include "mock/recording.h"

enum { LIBRARY_FILES = 10000, LIBRARY_BYTES = 256 * 1024 * 1024, LIBRARY_PROBLEM = 300 };

struct library;

// NULL: *problem (of LIBRARY_PROBLEM bytes) says why, and about which file and line.
struct library *library_open(const char *folder, char *problem);
void library_close(struct library *library); // NULL: nothing
size_t library_count(const struct library *library);
// Reads one more file, which takes the place of the recording of the same request. ERR_FULL: over the limits.
MUSTCHECK enum err library_add(struct library *library, const char *path, char *problem);

// What a request is known by. `target` is valid as long as the buf is.
struct library_key {
    struct str method;
    struct str target;
    struct digest body;
};
// Both bufs are cleared first; they grow with what is asked.
MUSTCHECK enum err library_key(struct str method, struct str target, struct str body, struct buf *target_room,
                               struct buf *scratch, struct library_key *key);
// Lives as long as the library; NULL: there is none.
const struct recording *library_find(const struct library *library, const struct library_key *key);
// For a request that there is none of: names the nearest that there is one of. Returns `out`.
const char *library_nearest(const struct library *library, const struct library_key *key, char *out, size_t size);
// The name of the file that is written for a request, at most LIBRARY_NAME bytes. Returns `out`.
enum { LIBRARY_NAME = 120 };
const char *library_file_name(const struct library_key *key, char out[LIBRARY_NAME]);
