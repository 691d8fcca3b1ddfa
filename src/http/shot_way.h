// SPDX-License-Identifier: MIT
// What the versions of HTTP do for a shot, and what shot.c does for them. Private to http/.
#pragma once
#include "http/shot.h"

struct shot_way {
    enum shot_http http;
    // The connection is there (s->conn, which is the way's from now on): shot_loaded follows, in here or later.
    void (*open)(struct shot *s);
    // Writes what may leave in this state.
    void (*push)(struct shot *s);
    // s->work ran.
    void (*go_on)(struct shot *s);
    // Frees what it has, and closes the connection.
    void (*shut)(struct shot *s);
};
extern const struct shot_way shot_h1, shot_h2;

// Of what has just been read; the request may have left in the same turn.
static inline uint64_t shot_arrived_ns(const struct shot *s) { return MAX(s->aim.loop->now_ns, s->sent_ns); }
static inline uint64_t shot_clock_ns(const struct shot *s) { return s->aim.loop->clock->now_ns(s->aim.loop->clock); }

void shot_set_state(struct shot *s, enum shot_state state);
// As shot_start, without a connection.
void shot_prepare(struct shot *s, const struct aim *aim);
void shot_loaded(struct shot *s);
void shot_take_head(struct shot *s, const struct head *head);
void shot_take_body(struct shot *s, struct str bytes);
void shot_end(struct shot *s, uint64_t at_ns);
// Writes down how it fails; shot_end is to follow.
PRINTF(3, 4) void shot_note(struct shot *s, enum err e, const char *format, ...);
PRINTF(4, 5) void shot_fail(struct shot *s, uint64_t at_ns, enum err e, const char *format, ...);
