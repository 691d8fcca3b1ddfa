// SPDX-License-Identifier: MIT
#include "plan/seats.h"

#include "base/mem.h"

struct seat {
    uint64_t free_ns;
    uint32_t last; // who sits or sat there
};

// The seat that is free first; of several the lowest.
static unsigned first_free(const struct seat *room, unsigned count) {
    unsigned best = 0;
    for (unsigned i = 1; i < count; i++) {
        best = room[i].free_ns < room[best].free_ns ? i : best;
    }
    return best;
}

// When a call that came then first finds a seat that is free from `free_ns` on.
static uint64_t finds(const struct seats *seats, uint64_t arrived_ns, uint64_t free_ns) {
    if (arrived_ns >= free_ns || seats->poll_ns == 0) {
        return MAX(arrived_ns, free_ns);
    }
    uint64_t looks = (free_ns - arrived_ns + seats->poll_ns - 1) / seats->poll_ns;
    return arrived_ns + looks * seats->poll_ns;
}

// Who of those not yet seated (seat == count) finds it first; of several who came first.
static size_t next_to_sit(const struct seats *seats, unsigned count, const struct sitting *v, size_t n, size_t from,
                          uint64_t free_ns) {
    size_t best = from;
    if (seats->poll_ns == 0) {
        return from;
    }
    uint64_t best_ns = finds(seats, v[from].arrived_ns, free_ns);
    for (size_t i = from + 1; i < n && v[i].arrived_ns < best_ns; i++) {
        uint64_t at_ns = finds(seats, v[i].arrived_ns, free_ns);
        if (v[i].seat == count && at_ns < best_ns) {
            best = i;
            best_ns = at_ns;
        }
    }
    return best;
}

static void sit(const struct seats *seats, struct seat *room, unsigned at, struct sitting *v, size_t who) {
    struct sitting *s = &v[who];
    struct seat *seat = &room[at];
    s->seat = at;
    s->after = seat->free_ns > s->arrived_ns ? seat->last : SITTING_NOBODY;
    s->seated_ns = finds(seats, s->arrived_ns, seat->free_ns);
    s->done_ns = s->seated_ns + seats->service_ns;
    seat->free_ns = s->done_ns;
    seat->last = (uint32_t)who;
}

void seats_fill(const struct seats *seats, struct sitting *v, size_t n) {
    unsigned count = seats->count == SEATS_UNLIMITED || seats->count > n ? (unsigned)n : seats->count;
    struct seat *room = xcalloc(count ? count : 1, sizeof *room);
    size_t from = 0; // everybody before is seated
    for (size_t i = 0; i < n; i++) {
        v[i].seat = count;
    }
    for (size_t seated = 0; seated < n; seated++) {
        unsigned at = first_free(room, count);
        sit(seats, room, at, v, next_to_sit(seats, count, v, n, from, room[at].free_ns));
        while (from < n && v[from].seat != count) {
            from++;
        }
    }
    free(room);
}

// ---- what came of it

static int by_time(const void *a, const void *b) {
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

// Of starts and ends in order of time, ends first where both fall together: the highest that the count gets.
static unsigned most_at_once(const struct sitting *v, size_t n) {
    uint64_t *starts = xcalloc(2 * n + 1, sizeof *starts);
    uint64_t *ends = starts + n;
    unsigned most = 0;
    for (size_t i = 0; i < n; i++) {
        starts[i] = v[i].seated_ns;
        ends[i] = v[i].done_ns;
    }
    qsort(starts, n, sizeof *starts, by_time);
    qsort(ends, n, sizeof *ends, by_time);
    for (size_t begun = 0, ended = 0; begun < n; begun++) {
        while (ends[ended] <= starts[begun] && ended < begun) {
            ended++;
        }
        most = MAX(most, (unsigned)(begun + 1 - ended));
    }
    free(starts);
    return most;
}

struct waits waits_of(const struct sitting *v, size_t n) {
    struct waits w = {0};
    uint64_t first_ns = UINT64_MAX;
    uint64_t last_ns = 0;
    uint64_t sum_ns = 0;
    for (size_t i = 0, next; i < n; i = next) {
        uint64_t arrived_ns = v[i].arrived_ns;
        uint64_t done_ns = 0;
        bool waited = false;
        for (next = i; next < n && v[next].user == v[i].user; next++) {
            uint64_t wait_ns = v[next].seated_ns - v[next].arrived_ns;
            arrived_ns = MIN(arrived_ns, v[next].arrived_ns);
            done_ns = MAX(done_ns, v[next].done_ns);
            waited = waited || v[next].after != SITTING_NOBODY;
            w.longest = wait_ns > w.longest_ns ? next : w.longest;
            w.longest_ns = MAX(w.longest_ns, wait_ns);
        }
        w.users++;
        w.waited += waited;
        sum_ns += done_ns - arrived_ns;
        w.max_ns = MAX(w.max_ns, done_ns - arrived_ns);
        first_ns = MIN(first_ns, arrived_ns);
        last_ns = MAX(last_ns, done_ns);
    }
    w.wall_ns = n ? last_ns - first_ns : 0;
    w.mean_ns = n ? sum_ns / w.users : 0;
    w.at_once = most_at_once(v, n);
    return w;
}

unsigned sittings_waiting(const struct sitting *v, size_t n, uint64_t at_ns) {
    unsigned waiting = 0;
    for (size_t i = 0; i < n; i++) {
        waiting += v[i].after != SITTING_NOBODY && v[i].arrived_ns <= at_ns && at_ns < v[i].seated_ns;
    }
    return waiting;
}
