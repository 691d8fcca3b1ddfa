// SPDX-License-Identifier: MIT
// The sending half over a connection that takes a few bytes at a time: whatever the owner offers, what arrives decodes
// to exactly the body.
#include "http/wire.h"

#include "check.h"

enum { BODY_MAX = 3000 };

// ---- a connection that takes at most `most` bytes a write (0: a random number, also none)

struct sink {
    struct conn conn;
    struct buf got;
    size_t most;
    uint64_t random;
    unsigned writes;
    bool fails;
};

static uint64_t roll(uint64_t *state) { // splitmix64
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static enum err sink_writev(struct conn *c, const struct iovec *v, int count, size_t *written) {
    struct sink *s = container_of(c, struct sink, conn);
    size_t room = s->most ? s->most : (size_t)(roll(&s->random) % 40);
    *written = 0;
    s->writes++;
    if (s->fails) {
        return ERR_RESET;
    }
    for (int i = 0; i < count && room; i++) {
        size_t n = MIN(room, v[i].iov_len);
        check_ok(buf_append(&s->got, v[i].iov_base, n));
        *written += n;
        room -= n;
    }
    return OK;
}

static const struct conn_ops sink_ops = {.writev = sink_writev};

static void sink_init(struct sink *s, size_t most, uint64_t seed) {
    *s = (struct sink){.conn = {.ops = &sink_ops}, .most = most, .random = seed};
    buf_init(&s->got, 1 << 24);
}

// ---- an owner that offers a body

struct sending {
    struct wire wire;
    struct sink sink;
    struct str body;
    size_t sent;
    uint64_t random;
};

static char body_bytes[BODY_MAX];

static void begin(struct sending *x, enum h1_framing framing, size_t body_len, size_t most, uint64_t seed) {
    struct head head = {.status = 200,
                        .body_len = framing == H1_LENGTH || framing == H1_NO_BODY ? (int64_t)body_len : BODY_UNKNOWN};
    enum h1_framing got = H1_NO_BODY;
    for (size_t i = 0; i < BODY_MAX; i++) { // looks like framing all over
        body_bytes[i] = "0\r\n\r\n5;a\r\nHTTP/1.1 200 OK\r\n"[i % 28];
    }
    *x = (struct sending){.body = str_from(body_bytes, body_len), .random = seed};
    wire_init(&x->wire);
    sink_init(&x->sink, most, seed);
    check_ok(h1_write_response(&x->wire.pending, &head, framing == H1_NO_BODY, framing == H1_UNTIL_CLOSE ? 0 : 1, false,
                               &got));
    check(got == framing || (framing == H1_LENGTH && body_len == 0 && got == H1_NO_BODY));
    wire_begin(&x->wire, got, head.body_len);
}

static void finish(struct sending *x) {
    wire_finish(&x->wire);
    buf_finish(&x->sink.got);
}

// Offers up to `n` more bytes, at least those offered before and not taken, in up to three parts.
static size_t offer(struct sending *x, size_t n, bool end) {
    struct str rest = str_first(str_skip(x->body, x->sent), n);
    struct iovec v[3];
    int count = 0;
    while (rest.len && count < 3) {
        size_t part = count == 2 ? rest.len : 1 + (size_t)(roll(&x->random) % rest.len);
        v[count++] = (struct iovec){(void *)(uintptr_t)rest.ptr, part};
        rest = str_skip(rest, part);
    }
    size_t taken = wire_send(&x->wire, &x->sink.conn, v, count, end);
    check(taken <= n);
    x->sent += taken;
    return taken;
}

// Sends all of the body in offers of random sizes; `at_once`: always all that is left, with the end.
static void send_all(struct sending *x, bool at_once) {
    size_t open = 0; // offered and not taken
    for (unsigned turns = 0; !wire_complete(&x->wire); turns++) {
        size_t left = x->body.len - x->sent;
        size_t n = at_once ? left : MIN(left, open + (size_t)(roll(&x->random) % 200));
        bool end = n == left && (at_once || roll(&x->random) % 3 == 0);
        check(turns < 100000);
        check(x->wire.state != WIRE_BROKEN);
        if (x->wire.state == WIRE_BODY) {
            open = n - offer(x, n, end);
        }
        if (x->wire.blocked) {
            wire_flush(&x->wire, &x->sink.conn);
        }
    }
    check_int(x->sent, x->body.len);
}

static void check_decodes(struct sending *x, enum h1_framing framing) {
    static const struct http_limits limits = {.head_bytes = 10000, .fields = 10, .target_bytes = 10};
    struct h1 *p = h1_create(H1_RESPONSE, &limits);
    struct h1_result r;
    struct str got = buf_str(&x->sink.got);
    char *copy = str_dup(got);
    if (framing == H1_NO_BODY) {
        h1_expect_no_body(p);
    }
    check_ok(h1_feed(p, copy, got.len, &r));
    check(r.used == got.len);
    if (framing == H1_NO_BODY) {
        check_int(r.body.len, 0);
    } else {
        check(str_eq(r.body, x->body));
    }
    if (framing == H1_UNTIL_CLOSE) {
        check(!r.end);
        check_ok(h1_feed_eof(p, &r));
    }
    check(r.end);
    free(copy);
    h1_destroy(p);
}

static void send_and_decode(enum h1_framing framing, size_t len, size_t most, uint64_t seed, bool at_once) {
    struct sending x;
    begin(&x, framing, len, most, seed);
    send_all(&x, at_once);
    check_decodes(&x, framing);
    finish(&x);
}

static void every_way(enum h1_framing framing) {
    static const size_t lengths[] = {0, 1, 2, 9, 15, 16, 17, 255, 256, 300, BODY_MAX};
    static const size_t mosts[] = {0, 1, 2, 3, 5, 7, 64, 1000, 100000};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        for (size_t j = 0; j < ARRAY_LEN(mosts); j++) {
            send_and_decode(framing, lengths[i], mosts[j], i * 100 + j, true);
            for (uint64_t seed = 0; seed < 40; seed++) {
                send_and_decode(framing, lengths[i], mosts[j], seed * 7919 + i * 100 + j, false);
            }
        }
    }
}

static void a_body_of_known_length_arrives(void **state) {
    (void)state;
    every_way(H1_LENGTH);
}

static void a_chunked_body_arrives(void **state) {
    (void)state;
    every_way(H1_CHUNKED);
}

static void a_body_until_close_arrives(void **state) {
    (void)state;
    every_way(H1_UNTIL_CLOSE);
}

static void a_body_that_must_not_be_sent_is_swallowed(void **state) {
    (void)state;
    every_way(H1_NO_BODY);
}

static void head_and_body_leave_in_one_write(void **state) {
    static const enum h1_framing framings[] = {H1_LENGTH, H1_CHUNKED, H1_UNTIL_CLOSE, H1_NO_BODY};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
        struct sending x;
        begin(&x, framings[i], 100, 100000, 1);
        offer(&x, 100, true);
        check(wire_complete(&x.wire));
        check_int(x.sink.writes, 1);
        check(!x.wire.pending.ptr); // nothing is kept
        finish(&x);
    }
}

static void an_owner_that_ends_later_with_nothing_is_fine(void **state) {
    static const enum h1_framing framings[] = {H1_LENGTH, H1_CHUNKED, H1_UNTIL_CLOSE};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
        struct sending x;
        begin(&x, framings[i], 100, 100000, 1);
        check_int(offer(&x, 100, false), 100);
        check(!wire_complete(&x.wire));
        check_int(offer(&x, 0, true), 0);
        check(wire_complete(&x.wire));
        check_decodes(&x, framings[i]);
        finish(&x);
    }
}

static void offering_nothing_sends_the_head_only(void **state) {
    struct sending x;
    (void)state;
    begin(&x, H1_CHUNKED, 10, 100000, 1);
    check_int(offer(&x, 0, false), 0);
    check(str_ends(buf_str(&x.sink.got), STR("\r\n\r\n")));
    send_all(&x, true);
    check_decodes(&x, H1_CHUNKED);
    finish(&x);
}

static void a_body_shorter_than_announced_breaks_the_wire(void **state) {
    static const size_t mosts[] = {1, 7, 100000};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(mosts); i++) {
        struct sending x;
        begin(&x, H1_LENGTH, 100, mosts[i], 1);
        for (int turn = 0; turn < 1000 && x.wire.state == WIRE_BODY; turn++) {
            offer(&x, 99 - x.sent, true);
        }
        check_int(x.wire.state, WIRE_BROKEN);
        check_int(offer(&x, 1, true), 0);
        check(!wire_complete(&x.wire));
        finish(&x);
    }
}

static void a_body_longer_than_announced_never_looks_complete(void **state) {
    struct sending x;
    (void)state;
    begin(&x, H1_LENGTH, 100, 100000, 1);
    x.body.len = 101;
    check_int(offer(&x, 50, false), 50);
    check_int(offer(&x, 51, true), 0);
    check_int(x.wire.state, WIRE_BROKEN);
    check(str_ends(buf_str(&x.sink.got), str_first(x.body, 50)));
    finish(&x);
}

static void a_body_that_goes_on_behind_its_length_breaks_the_wire(void **state) {
    struct sending x;
    (void)state;
    begin(&x, H1_LENGTH, 100, 100000, 1);
    x.body.len = 101;
    check_int(offer(&x, 100, false), 100);
    check_int(offer(&x, 1, true), 0);
    check_int(x.wire.state, WIRE_BROKEN);
    check(str_ends(buf_str(&x.sink.got), str_first(x.body, 100)));
    finish(&x);
}

static void a_chunk_cannot_end_before_what_was_offered(void **state) {
    struct sending x;
    size_t before;
    (void)state;
    begin(&x, H1_CHUNKED, 100, 60, 1);
    offer(&x, 100, false);
    check(x.sent < 100);
    before = buf_len(&x.sink.got);
    check_int(offer(&x, 1, true), 0);
    check_int(x.wire.state, WIRE_BROKEN);
    check_int(buf_len(&x.sink.got), before); // no last chunk inside of another
    finish(&x);
}

static void a_failed_write_breaks_the_wire(void **state) {
    static const enum h1_framing framings[] = {H1_LENGTH, H1_CHUNKED, H1_UNTIL_CLOSE};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
        struct sending x;
        begin(&x, framings[i], 100, 10, 1);
        offer(&x, 100, true);
        x.sink.fails = true;
        check_int(offer(&x, 100, true), 0);
        check_int(x.wire.state, WIRE_BROKEN);
        check_int(buf_len(&x.wire.pending), 0);
        finish(&x);
        begin(&x, framings[i], 100, 10, 1);
        x.sink.fails = true;
        check(!wire_flush(&x.wire, &x.sink.conn));
        check_int(x.wire.state, WIRE_BROKEN);
        finish(&x);
    }
}

static void without_memory_for_what_is_left_the_wire_breaks(void **state) {
    struct sending x;
    (void)state;
    begin(&x, H1_CHUNKED, 300, 100000, 1);
    check_ok(buf_reserve(&x.sink.got, 10000));
    check_int(offer(&x, 10, false), 10);
    x.sink.most = 1; // the next chunk's size stays behind
    mem_fail_after(1, 0);
    check_int(offer(&x, 100, false), 0);
    mem_fail_after(0, 0);
    check_int(x.wire.state, WIRE_BROKEN);
    finish(&x);
}

static void a_head_is_taken_back_while_it_has_not_left(void **state) {
    struct sending x;
    (void)state;
    begin(&x, H1_LENGTH, 10, 100000, 1);
    check(wire_retract(&x.wire));
    check_int(x.wire.state, WIRE_IDLE);
    check_int(buf_len(&x.wire.pending), 0);
    check(!wire_retract(&x.wire));
    finish(&x);
}

static void a_head_that_left_in_part_is_not_taken_back(void **state) {
    struct sending x;
    (void)state;
    begin(&x, H1_LENGTH, 10, 1, 1);
    check(!wire_flush(&x.wire, &x.sink.conn));
    check(!wire_retract(&x.wire));
    check_int(x.wire.state, WIRE_BODY);
    finish(&x);
    begin(&x, H1_LENGTH, 10, 100000, 1);
    offer(&x, 1, false);
    check(!wire_retract(&x.wire));
    finish(&x);
}

// An interim head that is half out: taking what waits back would cut it in two.
static void a_head_behind_half_an_interim_one_is_not_taken_back(void **state) {
    struct head interim = {.status = 100};
    struct head final = {.status = 200, .body_len = 10};
    enum h1_framing framing;
    struct wire w;
    struct sink s;
    (void)state;
    wire_init(&w);
    sink_init(&s, 3, 1);
    check_ok(h1_write_response(&w.pending, &interim, false, 1, false, &framing));
    check(!wire_flush(&w, &s.conn));
    check_ok(h1_write_response(&w.pending, &final, false, 1, false, &framing));
    wire_begin(&w, framing, 10);
    check(!wire_retract(&w));
    while (!wire_flush(&w, &s.conn)) {
    }
    check_str(buf_str(&s.got), "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
    wire_finish(&w);
    buf_finish(&s.got);
}

static void a_wire_carries_one_message_after_another(void **state) {
    struct sending x;
    struct head head = {.status = 200, .body_len = 5};
    enum h1_framing framing;
    (void)state;
    begin(&x, H1_LENGTH, 10, 3, 1);
    send_all(&x, true);
    wire_reset(&x.wire);
    check(!x.wire.blocked);
    buf_clear(&x.sink.got);
    x.sent = 0;
    x.body = STR("hello");
    check_ok(h1_write_response(&x.wire.pending, &head, false, 1, false, &framing));
    wire_begin(&x.wire, framing, head.body_len);
    send_all(&x, true);
    check_decodes(&x, H1_LENGTH);
    finish(&x);
}

TESTS(TEST(a_body_of_known_length_arrives), TEST(a_chunked_body_arrives), TEST(a_body_until_close_arrives),
      TEST(a_body_that_must_not_be_sent_is_swallowed), TEST(head_and_body_leave_in_one_write),
      TEST(an_owner_that_ends_later_with_nothing_is_fine), TEST(offering_nothing_sends_the_head_only),
      TEST(a_body_shorter_than_announced_breaks_the_wire), TEST(a_body_longer_than_announced_never_looks_complete),
      TEST(a_body_that_goes_on_behind_its_length_breaks_the_wire), TEST(a_chunk_cannot_end_before_what_was_offered),
      TEST(a_failed_write_breaks_the_wire), TEST(without_memory_for_what_is_left_the_wire_breaks),
      TEST(a_head_is_taken_back_while_it_has_not_left), TEST(a_head_that_left_in_part_is_not_taken_back),
      TEST(a_head_behind_half_an_interim_one_is_not_taken_back), TEST(a_wire_carries_one_message_after_another))
