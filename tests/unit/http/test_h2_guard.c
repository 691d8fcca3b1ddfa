// SPDX-License-Identifier: MIT
// What a client may spend on frames, by number; cut at every byte.
#include "http/h2_guard.h"

#include "h2_frames.h"

enum { CALM = 99, CLOSED = 5, HEAD_MOST = 1000 };

struct at {
    struct h2_guard guard;
    struct buf bytes;
    uint64_t now_ms;
    uint32_t code;
};

static void begin(struct at *a) {
    *a = (struct at){.code = CALM};
    buf_init(&a->bytes, 64 << 20);
    h2_guard_init(&a->guard, HEAD_MOST, 0);
    put_bytes(&a->bytes, H2_MAGIC, sizeof H2_MAGIC - 1);
    put_frame(&a->bytes, F_SETTINGS, 0, 0, STR(""));
}

// Feeds what was put, `piece` bytes at a time (0: all at once).
static const char *look(struct at *a, size_t piece) {
    struct str rest = buf_str(&a->bytes);
    const char *problem = NULL;
    while (rest.len && !problem) {
        size_t n = piece ? MIN(piece, rest.len) : rest.len;
        problem = h2_guard_look(&a->guard, rest.ptr, n, a->now_ms, &a->code);
        rest = str_skip(rest, n);
    }
    buf_clear(&a->bytes);
    return problem;
}

struct flood {
    unsigned type, flags, id;
    size_t len;
};

static void put_flood(struct at *a, const struct flood *f) {
    static const char zeros[64];
    put_frame(&a->bytes, f->type, f->flags, f->id, str_from(zeros, f->len));
}

// So many pass at once, and one more does not; a second later a second's worth does.
static void bounded(const struct flood *f, unsigned most, unsigned per_s, size_t piece) {
    struct at a;
    begin(&a);
    for (unsigned i = 0; i < most; i++) {
        put_flood(&a, f);
    }
    check(look(&a, piece) == NULL);
    struct h2_guard full = a.guard;
    put_flood(&a, f);
    check(look(&a, piece) != NULL);
    check_int(a.code, CALM);
    a.guard = full;
    a.now_ms = 1000;
    for (unsigned i = 0; i < per_s; i++) {
        put_flood(&a, f);
    }
    check(look(&a, piece) == NULL);
    put_flood(&a, f);
    check(look(&a, piece) != NULL);
    buf_finish(&a.bytes);
}

static void floods_are_bounded(void **state UNUSED) {
    static const struct flood floods[] = {
        {F_PING, 0, 0, 8},   {F_PING, F_ACK, 0, 8}, {F_SETTINGS, 0, 0, 0}, {F_PRIORITY, 0, 1, 5},
        {F_WINDOW, 0, 0, 4}, {F_WINDOW, 0, 1, 4},   {F_GOAWAY, 0, 0, 8},   {11, 0, 0, 10}, // what nobody knows
    };
    for (size_t i = 0; i < ARRAY_LEN(floods); i++) {
        bounded(&floods[i], GUARD_GLITCHES, GUARD_GLITCHES_PER_S, 0);
        bounded(&floods[i], GUARD_GLITCHES, GUARD_GLITCHES_PER_S, 1);
        bounded(&floods[i], GUARD_GLITCHES, GUARD_GLITCHES_PER_S, 13);
    }
    bounded(&(struct flood){F_RST, 0, 1, 4}, GUARD_RESETS, GUARD_RESETS_PER_S, 0);
}

static void empty_data_is_bounded_and_more_is_not(void **state UNUSED) {
    struct at a;
    begin(&a);
    put_frame(&a.bytes, F_HEADERS, F_END_HEADERS, 1, STR("x"));
    for (unsigned i = 0; i < GUARD_GLITCHES + GUARD_EARNED_BY_REQUEST; i++) {
        put_frame(&a.bytes, F_DATA, 0, 1, STR(""));
        put_frame(&a.bytes, F_DATA, 0, 1, STR("0123456789abcdef"));
    }
    check(look(&a, 0) == NULL);
    put_frame(&a.bytes, F_DATA, 0, 1, STR("0123456789abcde"));
    check(look(&a, 0) != NULL);
    buf_finish(&a.bytes);
}

static void requests_and_answers_earn(void **state UNUSED) {
    struct at a;
    begin(&a);
    for (unsigned i = 0; i < 20000; i++) {
        h2_guard_data_sent(&a.guard);
        put_number_frame(&a.bytes, F_WINDOW, 0, 100);
        put_number_frame(&a.bytes, F_WINDOW, 1, 100);
        check(look(&a, 0) == NULL);
    }
    buf_finish(&a.bytes);
}

static void heads_are_bounded(void **state UNUSED) {
    struct at a;
    char piece[200] = {0};
    begin(&a);
    put_frame(&a.bytes, F_HEADERS, F_END_STREAM, 1, str_from(piece, 100));
    for (unsigned i = 0; i < GUARD_CONTINUATIONS; i++) {
        put_frame(&a.bytes, F_CONTINUATION, 0, 1, str_from(piece, 100));
    }
    check(look(&a, 0) == NULL);
    put_frame(&a.bytes, F_CONTINUATION, 0, 1, STR(""));
    check(look(&a, 0) != NULL); // one too many
    a.guard.continuations = 0;
    put_frame(&a.bytes, F_HEADERS, F_END_STREAM, 3, str_from(piece, 200)); // another head counts anew
    for (unsigned i = 0; i < 4; i++) {
        put_frame(&a.bytes, F_CONTINUATION, 0, 3, str_from(piece, 200));
    }
    check(look(&a, 0) == NULL);
    put_frame(&a.bytes, F_CONTINUATION, 0, 3, str_from(piece, 1));
    check(look(&a, 0) != NULL); // larger than HEAD_MOST
    buf_finish(&a.bytes);
}

static const char *in_order(const struct flood *frames, size_t n, uint32_t *code) {
    struct at a;
    const char *problem = NULL;
    begin(&a);
    for (size_t i = 0; i < n; i++) {
        check(problem == NULL); // only the last one may be wrong
        put_flood(&a, &frames[i]);
        problem = look(&a, 0);
    }
    *code = a.code;
    buf_finish(&a.bytes);
    return problem;
}

static void closed_streams_stay_closed(void **state UNUSED) {
    enum { H = F_HEADERS, D = F_DATA, R = F_RST, E = F_END_STREAM };
    static const struct {
        struct flood frames[4];
        size_t n;
        bool wrong;
    } rows[] = {
        {{{H, E, 1, 1}, {D, E, 1, 0}}, 2, true},                 // data behind the end
        {{{H, E, 1, 1}, {H, E, 1, 1}}, 2, true},                 // a second head behind it
        {{{H, 0, 1, 1}, {D, 0, 1, 20}, {H, E, 1, 1}}, 3, false}, // trailers
        {{{H, 0, 1, 1}, {H, E, 1, 1}, {D, E, 1, 0}}, 3, true},   // data behind them
        {{{H, 0, 1, 1}, {R, 0, 1, 4}, {D, E, 1, 0}}, 3, true},   // data behind a reset
        {{{H, 0, 1, 1}, {R, 0, 1, 4}, {R, 0, 1, 4}}, 3, false},  // resets may cross
        {{{H, 0, 5, 1}, {H, E, 3, 1}}, 2, true},                 // a stream that was passed over
        {{{H, 0, 1, 1}, {H, 0, 3, 1}, {D, E, 1, 0}, {D, E, 3, 0}}, 4, false},
        {{{D, 0, 7, 1}}, 1, false}, // one that has not begun: nghttp2 says so
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint32_t code;
        check_int(in_order(rows[i].frames, rows[i].n, &code) != NULL, rows[i].wrong);
        check_int(code, rows[i].wrong ? CLOSED : CALM);
    }
}

// More uploads than are remembered: then it is nghttp2's business alone.
static void what_was_forgotten_is_let_pass(void **state UNUSED) {
    struct at a;
    begin(&a);
    for (unsigned i = 0; i <= GUARD_OPEN; i++) {
        put_frame(&a.bytes, F_HEADERS, 0, 2 * i + 1, STR("x"));
    }
    put_frame(&a.bytes, F_DATA, F_END_STREAM, 1, STR(""));
    put_frame(&a.bytes, F_DATA, F_END_STREAM, 1, STR(""));
    put_frame(&a.bytes, F_DATA, F_END_STREAM, 3, STR(""));
    check(look(&a, 0) == NULL);
    put_frame(&a.bytes, F_DATA, F_END_STREAM, 3, STR(""));
    check(look(&a, 0) != NULL);
    buf_finish(&a.bytes);
}

TESTS(TEST(floods_are_bounded), TEST(empty_data_is_bounded_and_more_is_not), TEST(requests_and_answers_earn),
      TEST(heads_are_bounded), TEST(closed_streams_stay_closed), TEST(what_was_forgotten_is_let_pass))
