// SPDX-License-Identifier: MIT
// The evidence, arranged for being explained: per trial the calls that were served, in the order they came and in the
// order they were done. Times are milliseconds from the start of the probe.
#pragma once
#include "probe/evidence.h"

struct sight {
    double came, done;
    unsigned session; // 0: none
    unsigned trial;   // index of its span
    bool counts;      // false: it took a seat, but its time says nothing (retransmitted, failed late)
};

struct refusal {
    double came;
    unsigned trial;
    int status;
};

// One trial's part of the sights.
struct span {
    size_t from, to;
    enum trial_kind kind;
    size_t refused_from, refused_to;
    unsigned calls;     // that were sent
    unsigned lost;      // of the scene's calls that are left out, those that came before it
    unsigned most_seen; // in service at once, by the mock's journal; 0: unknown
};

struct scene {
    struct sight *v; // by trial, then in the order of coming
    size_t n;
    uint32_t *by_done; // indexes of v, by trial, then in the order of being done
    struct span *spans;
    unsigned span_count;
    struct refusal *refusals; // calls that were answered at once, and not with success
    size_t refused;
    size_t failed;      // that ended otherwise: no answer, a timeout
    size_t turned_away; // by the server's HTTP/2: neither served nor refused by the app
    size_t resent;      // the kernel had to send again
    double *lost;       // when calls of trials that are left out came, that were answered
    unsigned lost_count;
    unsigned lost_bursts;
    unsigned unsound;  // trials left out: the prober was late
    unsigned most;     // calls of the largest trial that is not solo
    double alone_ms;   // median of calls alone
    double fastest_ms; // of them
    double spread;     // their robust relative deviation, at least the noise that a quiet machine has
    double cv;         // their standard deviation by their mean; of six or more, a few that were late do not make it
};

// In which HTTP the calls were asked.
struct spoken {
    bool h1, h2;
    unsigned
        streams; // HTTP/2: the least that the server said it takes at once on a connection; 0: no limit to speak of
};
struct spoken spoken_of(const struct evidence *e);

// False: there is nothing to look at yet (no call alone was answered).
bool scene_init(struct scene *s, const struct evidence *e);
void scene_finish(struct scene *s);
// Was the prober itself quick enough for the trial to count, a call alone taking so long?
bool scene_sound(const struct trial *t, double alone_ms);
static inline size_t span_len(const struct span *p) { return p->to - p->from; }
static inline bool span_is_burst(const struct span *p) {
    return p->kind == TRIAL_BURST || p->kind == TRIAL_SESSION || p->kind == TRIAL_SLOWER;
}
