// SPDX-License-Identifier: MIT
// Inside the lab: guests (a request each), their slow calls, and the rooms with seats that these sit in. Private.
//
// Threads and the loop: a call belongs to a thread from executor_submit until that has posted `done`. What the loop
// knows of it meanwhile it is told by messages: `taken` (a thread has it), `seated` (it has the lock or the flag too),
// `done`. Messages of one seat come in their order, so rooms and seats are the loop's own and need no lock.
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "http/client.h"
#include "lab/lab.h"
#include "llm/json.h"
#include "work/executor.h"

enum { ANSWER_CAP = 4 * 1024 * 1024, PROBLEM_MAX = 400, SEAT_NAME = 24 };

// ---- patterns

enum room_id { ROOM_DEFAULT, ROOM_EXECUTOR, ROOM_LOCK, ROOM_FLAG, ROOM_COUNT, ROOM_NONE = ROOM_COUNT };

// A way to run a slow call.
struct pattern {
    const char *name;
    struct str path;
    enum room_id pool;  // whose threads; ROOM_NONE: the loop, no thread
    enum room_id guard; // what it holds besides while it calls; ROOM_NONE: nothing
    // Of the guard, on the thread: waits until it is had; gives it back. False: the lab is ending.
    bool (*enter)(struct lab *lab);
    void (*leave)(struct lab *lab);
    const char *about;
};

const struct pattern *pattern_find(struct str path);
const struct pattern *pattern_at(size_t i); // NULL behind the last

// ---- rooms

struct seat {
    const struct call *sitting; // NULL: free
    uint64_t since_ns;
    uint64_t freed_ns;
    char last_user[LAB_USER_MAX + 1];
};

struct room {
    const char *name;
    struct executor *executor; // NULL: a guard, one seat
    struct seat *seats;
    unsigned count;
    unsigned taken;
    unsigned waiting;
};

// ---- calls and guests

enum call_state { CALL_QUEUED, CALL_HELD, CALL_CALLING, CALL_OVER };

struct guest;
struct call {
    struct guest *guest;
    enum call_state state; // as the loop knows it: queued; a thread holds it, without its guard; calling; over
    // The thread's until `done` is delivered.
    struct work work;
    struct message took, sat, ended;
    unsigned thread;
    uint64_t taken_ns, seated_ns, done_ns;
    enum err result;
    int status;
    struct buf answer;
    char problem[PROBLEM_MAX];
    // /async
    struct xchg up;
    struct timer deadline;
    size_t sent;
    // The loop's.
    char waited_for[LAB_USER_MAX + 1]; // "": for nobody
};

enum guest_state { GUEST_ARRIVING, GUEST_WAITING, GUEST_ANSWERING, GUEST_LEFT, GUEST_OVER };

struct guest {
    struct lab *lab;
    struct list node;
    struct grave grave;
    struct xchg *x;
    const struct pattern *pattern;
    enum guest_state state;
    atomic_bool left; // for the threads: nobody waits for these calls any more
    uint64_t arrived_ns;
    uint64_t service_ms;
    struct buf body; // of the request; then of the answer
    size_t sent;
    struct buf ask; // what is sent upstream; constant while calls run
    unsigned open;  // calls not over
    unsigned count;
    struct call *calls;
    const struct call *last; // the one that was done last
    char user[LAB_USER_MAX + 1];
};

struct lab {
    struct loop *loop;
    struct lab_options options;
    struct http_server server;
    struct dns *dns;
    struct http_client client;
    struct origin origin;
    struct blocking *blocking;
    struct room rooms[ROOM_COUNT];
    unsigned in_flight; // calls of /async
    uint64_t users;     // so far
    struct list guests;
    // The threads'.
    pthread_mutex_t lock; // the pattern's
    atomic_bool flag;     // the pattern's
    atomic_bool ending;
    pthread_mutex_t nap_lock;
    pthread_cond_t nap;
};

// What others wrote and people will read in a log: no control characters. In place.
static inline void lab_make_plain(char *text) {
    for (char *c = text; *c; c++) {
        *c = (unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c;
    }
}

static inline uint64_t lab_now_ns(const struct lab *lab) { return lab->loop->clock->now_ns(lab->loop->clock); }

// Starts a call of a guest whose `ask` is made. Its end is told by guest_call_over, never inside.
void lab_call_start(struct call *c);
// Gives up what can be: a call on the loop. One that waits for a thread is passed over when its turn comes; one that
// runs on a thread runs to its end.
void lab_call_forget(struct call *c);
// What holds it: "default-3", "lock", "loop".
const char *lab_call_seat(const struct call *c, char out[SEAT_NAME]);
const char *lab_call_thread(const struct call *c, char out[SEAT_NAME]);

void guest_call_over(struct call *c);

// ---- pages

void page_answer(struct out *o, const struct guest *g, const struct call *answer);
void page_error(struct out *o, int status, struct str message);
void page_routes(struct out *o, struct lab *lab);
void page_health(struct out *o, struct lab *lab);
void page_seats(struct out *o, struct lab *lab);
