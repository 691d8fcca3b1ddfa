// SPDX-License-Identifier: MIT
// The text of a recording: what is read of one, what is refused and in which line, and that bytes survive it.
#include "mock/recording.h"

#include "check.h"

enum { CAP = 1 << 20 };

#define DIGEST "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
#define HEAD "thaw-recording 1\nrequest POST /v1/x\nbody " DIGEST "\nstatus 200 @1.5\n"
#define SMALL "thaw-recording 1\nrequest POST /v1/x\nbody *\n"

static void a_recording_is_read(void **state UNUSED) {
    static const char text[] =
        "thaw-recording 1\n# by hand\nrequest POST /v1/x?a=b\nbody " DIGEST "\nstatus 201 @812.00025\n"
        "length 12\nContent-Type:  text/plain \n# more\nX-A: b: c\n\n"
        "@812.00025\n|one\n>tw\n@900\n>o\\x00\\xff\\\\x41\n|\n@900\nend @1000.5\n";
    struct recording r;
    unsigned line = 0;
    const char *problem = NULL;
    struct str name, value, lines;
    uint64_t at_ns = 0;
    struct buf bytes;
    buf_init(&bytes, CAP);
    check_ok(recording_parse(str_c(text), &r, &line, &problem));
    check_str(r.method, "POST");
    check_str(r.target, "/v1/x?a=b");
    check(!r.any_body && r.body.bytes[0] == 0x9f && r.body.bytes[31] == 0x08 && r.whole);
    check_int(r.status, 201);
    check_int(r.head_ns, 812000250);
    check_int(r.length, 12);
    check(recording_field(&r.fields, &name, &value));
    check_str(name, "Content-Type");
    check_str(value, "text/plain");
    check(recording_field(&r.fields, &name, &value));
    check_str(name, "X-A");
    check_str(value, "b: c");
    check(!recording_field(&r.fields, &name, &value));
    check_int(recording_next(&r.pieces, &at_ns, &lines), RECORDING_PIECE);
    check_int(at_ns, 812000250);
    check_ok(recording_decode(lines, &bytes));
    check_str(buf_str(&bytes), "one\ntw");
    buf_clear(&bytes);
    check_int(recording_next(&r.pieces, &at_ns, &lines), RECORDING_PIECE);
    check_int(at_ns, 900000000);
    check_ok(recording_decode(lines, &bytes));
    check(str_eq(buf_str(&bytes), str_from("o\0\xff\\A\n", 6)));
    check_int(recording_next(&r.pieces, &at_ns, &lines), RECORDING_PIECE);
    check_int(lines.len, 0);
    check_int(recording_next(&r.pieces, &at_ns, &lines), RECORDING_END);
    check_int(at_ns, 1000500000);
    check_int(r.bytes, 12);
    buf_finish(&bytes);
}

static const struct {
    const char *text;
    unsigned line;
} wrong[] = {
    {"", 1},
    {"thaw-recording 2\n", 1},
    {"thaw-recording 1\n", 1},
    {"thaw-recording 1\nrequest POST\n", 2},
    {"thaw-recording 1\nrequest POST v1\n", 2},
    {"thaw-recording 1\nrequest POST /a b\n", 2},
    {"thaw-recording 1\nbody 12\n", 2},
    {"thaw-recording 1\nbody " DIGEST "0\n", 2},
    {SMALL "body *\n", 4},
    {SMALL "status 200\n", 4},
    {SMALL "status 199 @1\n", 4},
    {SMALL "status 600 @1\n", 4},
    {SMALL "status 200 1\n", 4},
    {SMALL "status 200 @1.\n", 4},
    {SMALL "status 200 @.5\n", 4},
    {SMALL "status 200 @1.0000001\n", 4},
    {SMALL "status 200 @-1\n", 4},
    {SMALL "status 200 @99999999999\n", 4},
    {SMALL "length 5x\n", 4},
    {SMALL "no field\n", 4},
    {SMALL ": x\n", 4},
    {SMALL "a b: x\n", 4},
    {SMALL "Content-Length: 5\n", 4},
    {SMALL "Transfer-Encoding: chunked\n", 4},
    {SMALL "\nend @1\n", 4}, // no status
    {HEAD, 4},               // no blank line
    {HEAD "\n", 5},
    {HEAD "\n@1\n|x\n", 7},
    {HEAD "\n|x\nend @1\n", 6}, // no time before it
    {HEAD "\n@1\nx\nend @1\n", 7},
    {HEAD "\nend\n", 6},
    {HEAD "\nend @1\nmore\n", 6},
};

static void what_is_wrong_is_told_with_its_line(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct recording r;
        unsigned line = 0;
        const char *problem = NULL;
        enum err e = recording_parse(str_c(wrong[i].text), &r, &line, &problem);
        if (e != ERR_INVALID || line != wrong[i].line || !problem) {
            fail_msg("'%s': %s in line %u: %s", wrong[i].text, err_name(e), line, problem ? problem : "nothing wrong");
        }
    }
}

// A recorder writes as many fields as an answer may have: they are counted, not the lines around them.
static void fields_are_counted(void **state UNUSED) {
    for (unsigned n = RECORDING_FIELDS_MAX; n <= RECORDING_FIELDS_MAX + 1; n++) {
        struct recording r;
        unsigned line = 0;
        const char *problem = NULL;
        struct buf text;
        struct out o = {&text, OK};
        buf_init(&text, CAP);
        put_text(&o, "thaw-recording 1\n# one\n# two\nrequest OPTIONS *\nbody *\nstatus 200 @1\nlength 0\n");
        for (unsigned i = 0; i < n; i++) {
            put_format(&o, "x-%u: y\n", i);
        }
        put_text(&o, "\nend @1\n");
        check_ok(o.e);
        check_err(recording_parse(buf_str(&text), &r, &line, &problem), n > RECORDING_FIELDS_MAX ? ERR_INVALID : OK);
        check_int(line, n > RECORDING_FIELDS_MAX ? 7 + n : 9 + n);
        buf_finish(&text);
    }
}

static void any_bytes_survive(void **state UNUSED) {
    char all[2 * 256];
    struct buf text, back;
    struct recording r = {.method = STR("GET"), .target = STR("/"), .any_body = true, .status = 299, .length = 7};
    struct fields none = {NULL, 0, 0};
    unsigned line = 0;
    const char *problem = NULL;
    struct str lines;
    uint64_t at_ns = 0;
    for (size_t i = 0; i < sizeof all; i++) {
        all[i] = (char)(i * (i < 256 ? 1 : 7));
    }
    buf_init(&text, CAP);
    buf_init(&back, CAP);
    for (size_t cut = 0; cut <= sizeof all; cut++) { // two pieces, cut anywhere
        struct out o = {&text, OK};
        buf_clear(&text);
        buf_clear(&back);
        recording_put_head(&o, &r, &none);
        recording_put_piece(&o, 1, str_from(all, cut));
        recording_put_piece(&o, 2, str_from(all + cut, sizeof all - cut));
        recording_put_end(&o, 3, false);
        check_ok(o.e);
        struct recording read;
        check_ok(recording_parse(buf_str(&text), &read, &line, &problem));
        check(!read.whole && read.any_body && read.status == 299 && read.length == 7);
        while (recording_next(&read.pieces, &at_ns, &lines) == RECORDING_PIECE) {
            check_ok(recording_decode(lines, &back));
        }
        check_int(at_ns, 3);
        check(str_eq(buf_str(&back), str_from(all, sizeof all)));
        for (size_t i = 0; i < buf_len(&text); i++) { // a text indeed
            unsigned char c = (unsigned char)buf_str(&text).ptr[i];
            check(c == '\n' || c == '\t' || (c >= ' ' && c < 0x7f) || c >= 0xC2 || (c >= 0x80 && c < 0xC0));
        }
    }
    buf_finish(&text);
    buf_finish(&back);
}

static void text_stays_readable(void **state UNUSED) {
    struct buf text;
    struct out o = {&text, OK};
    buf_init(&text, CAP);
    recording_put_piece(&o, 1500250, STR("data: {\"a\":\"\\n\\u00e9 \xC3\xA9\xF0\x9F\x98\x80\\x\"}\r\n\n\xC3"));
    check_ok(o.e);
    check_str(buf_str(&text),
              "@1.500250\n|data: {\"a\":\"\\n\\u00e9 \xC3\xA9\xF0\x9F\x98\x80\\x5cx\"}\\x0d\n|\n>\\xc3\n");
    buf_finish(&text);
}

TESTS(TEST(a_recording_is_read), TEST(what_is_wrong_is_told_with_its_line), TEST(fields_are_counted),
      TEST(any_bytes_survive), TEST(text_stays_readable))
