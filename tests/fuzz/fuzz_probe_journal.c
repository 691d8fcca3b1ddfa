// SPDX-License-Identifier: MIT
// Whatever claims to be a mock's journal: what is filled in is a service that began before it ended, on a seat.
#include "fuzz.h"
#include "probe/journal.h"

enum { CALLS = 4, START = 1000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct probe_call calls[CALLS];
    struct trial trial = {.plan.calls = CALLS, .calls = calls};
    struct probe_record *records;
    uint64_t last = 0;
    for (unsigned i = 0; i < CALLS; i++) {
        calls[i] = (struct probe_call){.user = i + 1, .sent_ns = i, .end_ns = 100 + i, .status = 200, .nonce = i + 1};
    }
    unsigned n = probe_journal_parse(str_from((const char *)data, size), &records, &last);
    for (unsigned i = 0; i < n; i++) {
        MUST(records[i].id <= last && records[i].start_ns && records[i].end_ns >= records[i].start_ns);
    }
    unsigned found = probe_journal_apply(records, n, START, &trial);
    unsigned seen = 0;
    for (unsigned i = 0; i < CALLS; i++) {
        MUST(calls[i].seen_end_ns >= calls[i].seen_start_ns && calls[i].seen_seat <= PROBE_SEATS_MOST);
        seen += calls[i].seen_end_ns != 0;
    }
    MUST(seen <= found && found <= CALLS);
    free(records);
    return 0;
}
