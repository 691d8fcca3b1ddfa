// SPDX-License-Identifier: MIT
// A writer and readers that know what has to come: the byte at each position is the pattern's.
#pragma once
#include <sys/uio.h>

#include "check.h"
#include "tape/tape.h"

enum { PATTERN = 4 << 20 };

static const char *pattern; // made by set_up

static inline int set_up(void **state UNUSED) {
    char *p = xmalloc(PATTERN);
    for (uint64_t i = 0; i < PATTERN; i++) { // different enough from its neighbours
        p[i] = (char)((i * 2654435761u) >> 13);
    }
    pattern = p;
    return 0;
}

static inline int tear_down(void **state UNUSED) {
    free((void *)(uintptr_t)pattern);
    return 0;
}

#define TAPE_TESTS(...)                                                                                                \
    int main(void) {                                                                                                   \
        const struct CMUnitTest tests[] = {__VA_ARGS__};                                                               \
        return cmocka_run_group_tests(tests, set_up, tear_down);                                                       \
    }

static inline void append(struct tape *t, size_t n, bool last) {
    check(t->written + n <= PATTERN);
    tape_append(t, str_from(pattern + t->written, n), last);
}

static const struct tape_why cut_off = {TAPE_CUT, ERR_CUT, 7, 0, "it broke"};

// ---- a reader

enum leaving { STAYS, LEAVES_ON_HEAD, LEAVES_ON_BYTES, LEAVES_ON_LAST, LEAVES_ON_END };

struct eyes {
    struct tape_reader r;
    size_t budget; // bytes it takes still; SIZE_MAX: all
    uint64_t seen;
    uint64_t from;
    unsigned heads, interim, lasts, ends, calls;
    int status;
    char type[32]; // content-type
    enum tape_end end;
    enum err error;
    enum leaving leaving;
};

static inline struct eyes *eyes_of(struct tape_reader *r) { return container_of(r, struct eyes, r); }

static inline void leave_if(struct eyes *e, enum leaving now) {
    if (e->leaving == now) {
        tape_leave(&e->r);
    }
}

static inline void eyes_on_head(struct tape_reader *r, const struct tape_head *head) {
    struct eyes *e = eyes_of(r);
    struct str type = fields_value(&head->fields, FIELD_CONTENT_TYPE);
    check_int(e->seen + e->lasts + e->ends, 0);
    e->heads += head->status >= 200;
    e->interim += head->status < 200;
    e->status = head->status;
    check(type.len < sizeof e->type);
    memcpy(e->type, type.len ? type.ptr : "", type.len);
    leave_if(e, LEAVES_ON_HEAD);
}

static inline size_t eyes_on_bytes(struct tape_reader *r, const struct iovec *v, int count, bool last) {
    struct eyes *e = eyes_of(r);
    uint64_t position = r->position;
    size_t taken = 0;
    size_t total = 0;
    check_int(position, e->from + e->seen);
    check_int(e->lasts + e->ends, 0);
    for (int i = 0; i < count; i++) {
        size_t n = MIN(v[i].iov_len, e->budget);
        check(v[i].iov_len > 0);
        if (memcmp(v[i].iov_base, pattern + position + taken, n) != 0) {
            fail_msg("the %zu bytes at %llu are not what was written", n, (unsigned long long)(position + taken));
        }
        taken += n;
        total += v[i].iov_len;
        e->budget -= e->budget == SIZE_MAX ? 0 : n;
        if (n < v[i].iov_len) {
            break;
        }
    }
    e->seen += taken;
    e->calls++;
    if (last && taken == total) {
        e->lasts++;
        leave_if(e, LEAVES_ON_LAST);
    }
    leave_if(e, LEAVES_ON_BYTES);
    return taken;
}

static inline void eyes_on_end(struct tape_reader *r, const struct tape_why *why) {
    struct eyes *e = eyes_of(r);
    check_int(e->lasts + e->ends, 0);
    e->ends++;
    e->end = why->end;
    e->error = why->error;
    if (why->error == ERR_FULL) {
        tape_leave(r); // the tape goes on without it
    } else {
        leave_if(e, LEAVES_ON_END);
    }
}

static const struct tape_reader_events eyes_events = {eyes_on_head, eyes_on_bytes, eyes_on_end};

static inline void eyes_open_at(struct eyes *e, struct tape *t, size_t budget, uint64_t position) {
    *e = (struct eyes){.budget = budget, .from = position};
    tape_open(t, &e->r, &eyes_events, position);
}

static inline void eyes_open(struct eyes *e, struct tape *t, size_t budget) { eyes_open_at(e, t, budget, 0); }

static inline void go_on(struct eyes *e, size_t budget) {
    e->budget = budget;
    if (e->r.tape && !e->ends && !e->lasts) {
        tape_read(&e->r);
    }
}
