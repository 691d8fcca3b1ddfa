// SPDX-License-Identifier: MIT
// Every stream is fed whole, byte by byte and at every split point; what is reported must be the same each
// time. Results are compared as text: "type|data|bytes;" per event, "!" before the bytes of a truncated one.
#include "http/sse.h"

#include "check.h"

struct recorder {
    struct sse sse;
    struct buf log;
};

static void on_event(struct sse *sse, const struct sse_event *event) {
    struct recorder *r = container_of(sse, struct recorder, sse);
    check(sse_at_boundary(sse));
    check(event->type.ptr && event->data.ptr);
    check(!event->truncated || event->data.len == 0);
    check_ok(buf_str_append(&r->log, event->type));
    check_ok(buf_append(&r->log, "|", 1));
    check_ok(buf_str_append(&r->log, event->data));
    check_ok(buf_printf(&r->log, "|%s%zu;", event->truncated ? "!" : "", event->bytes));
}

static void recorder_init(struct recorder *r) {
    sse_init(&r->sse, on_event);
    buf_init(&r->log, 64 << 20);
}

static void recorder_finish(struct recorder *r) {
    sse_finish(&r->sse);
    buf_finish(&r->log);
}

// A heap copy of the exact size, so that a read past the end is seen by the sanitizer.
static void feed(struct sse *sse, struct str s) {
    char *copy = malloc(s.len ? s.len : 1);
    if (s.len) {
        memcpy(copy, s.ptr, s.len);
    }
    sse_feed(sse, str_from(copy, s.len));
    free(copy);
}

static void feed_in_pieces_of(struct sse *sse, struct str s, size_t size) {
    for (; s.len; s = str_skip(s, size)) {
        feed(sse, str_first(s, size));
    }
}

static void check_end(struct recorder *r, struct str stream, const char *wanted, bool boundary, const char *how) {
    struct str got = buf_str(&r->log);
    if (!str_eq(got, str_c(wanted)) || sse_at_boundary(&r->sse) != boundary) {
        fail_msg("%s, \"%.*s\": got \"%.*s\"%s, wanted \"%s\"", how, STR_ARG(stream), STR_ARG(got),
                 sse_at_boundary(&r->sse) ? " at a boundary" : "", wanted);
    }
    recorder_finish(r);
}

// The scanner without on_event sees the same boundaries and keeps nothing.
static void check_tracking(struct str stream, uint64_t events, bool boundary) {
    struct sse sse;
    for (size_t size = 1; size <= stream.len; size++) {
        sse_init(&sse, NULL);
        feed_in_pieces_of(&sse, stream, size);
        check(sse.kept == NULL);
        check_int(sse.events, events);
        check_int(sse_at_boundary(&sse), boundary);
        sse_finish(&sse);
    }
}

static void check_stream(struct str stream, const char *wanted, bool boundary) {
    struct recorder r;
    recorder_init(&r);
    feed(&r.sse, stream);
    uint64_t events = r.sse.events;
    check_end(&r, stream, wanted, boundary, "whole");
    for (size_t size = 1; size < 8; size++) {
        recorder_init(&r);
        feed_in_pieces_of(&r.sse, stream, size);
        check_end(&r, stream, wanted, boundary, "in small pieces");
    }
    for (size_t at = 0; at <= stream.len; at++) {
        recorder_init(&r);
        feed(&r.sse, str_first(stream, at));
        feed(&r.sse, (struct str){NULL, 0});
        feed(&r.sse, str_skip(stream, at));
        check_end(&r, stream, wanted, boundary, "split");
    }
    check_tracking(stream, events, boundary);
}

struct row {
    struct str stream;
    const char *wanted;
    bool boundary;
};
#define ROW(stream, wanted, boundary)                                                                                  \
    { {"" stream, sizeof(stream) - 1}, wanted, boundary }

static void check_rows(const struct row *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        check_stream(rows[i].stream, rows[i].wanted, rows[i].boundary);
    }
}

static void events_as_the_standard_has_them(void **state UNUSED) {
    static const struct row rows[] = {
        ROW("", "", true),
        ROW("data: hello\n\n", "|hello|13;", true),
        ROW("data: YHOO\ndata: +2\ndata: 10\n\n", "|YHOO\n+2\n10|30;", true),
        ROW("event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n", "add|73857293|27;remove|2153|26;", true),
        ROW(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            "|first event|40;|second event|22;| third event|20;", true),
        ROW("data\n\ndata\ndata\n\ndata:", "||6;|\n|11;", false),
        ROW("data:test\n\ndata: test\n\n", "|test|11;|test|12;", true),
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void line_ends_of_every_kind(void **state UNUSED) {
    static const struct row rows[] = {
        ROW("data: a\r\rdata: b\r\r", "|a|9;|b|9;", true),
        // The LF behind the CR that ended an event counts to the next one.
        ROW("data: a\r\n\r\ndata: b\r\n\r\n", "|a|10;|b|11;", true),
        ROW("data: a\n\r\ndata: b\r\n\ndata: c\r\r\ndata: d\n\rdata: e\r\n\r\n", "|a|9;|b|11;|c|9;|d|10;|e|10;", true),
        ROW("data: a\rdata: b\ndata: c\r\ndata: d\n\n", "|a\nb\nc\nd|34;", true),
        ROW("\r\n\r\n\n\r\rdata: a\n\n", "|a|16;", true),
        ROW("data: a\r", "", false),
        ROW("data: a\r\n", "", false),
        ROW("data: a\r\n\r", "|a|10;", true),
        ROW("data: a\r\n\r\n", "|a|10;", true),
        ROW("\r", "", true),
        ROW("\n", "", true),
        ROW("\r\n", "", true),
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void a_mark_is_dropped_at_the_start_only(void **state UNUSED) {
    static const struct row rows[] = {
        ROW("\xEF\xBB\xBF", "", true),
        ROW("\xEF\xBB\xBF"
            "data: a\n\n",
            "|a|12;", true),
        ROW("\xEF\xBB\xBF\n\xEF\xBB\xBF"
            "data: a\n\n",
            "||16;", true),
        ROW("\xEF\xBB\xBF\xEF\xBB\xBF"
            "data: a\n\n",
            "||15;", true),
        ROW("\n\xEF\xBB\xBF\n\n", "||6;", true),
        ROW("\xEF\xBB\n\n", "||4;", true),
        ROW("\xEF", "", false),
        ROW("\xEF"
            "data: a\n\n",
            "||10;", true),
        ROW("\xEF\xBB\xBF: hm\n\n", "", true),
        ROW("\xEF\xBB: hm\n\n", "||8;", true),
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void comments_are_no_events(void **state UNUSED) {
    static const struct row rows[] = {
        ROW(":\n\n", "", true),
        ROW(": ping\n\n: ping\n\n", "", true),
        ROW(": ping", "", false),
        ROW(": ping\n", "", true), // nothing of an event is open
        ROW(":data: a\n\n", "", true),
        ROW("data: a\n: ping\n", "", false),
        ROW("data: a\n: ping\ndata: b\n\n", "|a\nb|24;", true),
        ROW(": ping\n\ndata: a\n\n", "|a|17;", true),
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void fields_of_every_shape(void **state UNUSED) {
    static const struct row rows[] = {
        ROW("data: \n\n", "||8;", true),
        ROW("data:\n\n", "||7;", true),
        ROW("data: :a: b\n\n", "|:a: b|13;", true),
        ROW("data:\ta\n\n", "|\ta|9;", true),
        ROW(" data: a\n\n", "||10;", true), // another name
        ROW("data : a\n\n", "||10;", true),
        ROW("Data: a\n\n", "||9;", true),
        ROW("dat: a\n\n", "||8;", true),
        ROW("datax: a\n\n", "||10;", true),
        ROW("datax\n\n", "||7;", true),
        ROW("dat\n\n", "||5;", true),
        ROW("even: a\n\n", "||9;", true),
        ROW("events: a\n\n", "||11;", true),
        ROW("id: 7\n\n", "||7;", true),
        ROW("retry: 10\n\n", "||11;", true),
        ROW("nonsense\n\n", "||10;", true),
        ROW("event: x\n\n", "x||10;", true),
        ROW("event\ndata: a\n\n", "|a|15;", true),
        ROW("event: x\nevent: y\ndata: a\n\n", "y|a|27;", true),
        ROW("event: x\nevent\ndata: a\n\n", "|a|24;", true),
        ROW("data: a\nevent: late\ndata: b\n\n", "late|a\nb|29;", true),
        ROW("event: x\ndata: a\n\ndata: b\n\n", "x|a|18;|b|9;", true), // the type is forgotten
        ROW("data: {\"x\":\"\xF0\x9F\x8D\x82\"}\n\n", "|{\"x\":\"\xF0\x9F\x8D\x82\"}|20;", true),
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void a_nul_is_a_byte_like_any_other(void **state UNUSED) {
    struct recorder r;
    recorder_init(&r);
    feed_in_pieces_of(&r.sse, STR("data: a\0b\n\ndat\0a: x\n\n"), 2);
    check(str_eq(buf_str(&r.log), STR("|a\0b|11;||10;")));
    recorder_finish(&r);
}

static void an_event_without_its_blank_line_is_none(void **state UNUSED) {
    static const struct row rows[] = {
        ROW("data: a\n\ndata: b\n", "|a|9;", false),
        ROW("data: a\n\ndata: b", "|a|9;", false),
        ROW("data: a\n\nd", "|a|9;", false),
        ROW("data: a\n\n:", "|a|9;", false),
        ROW("data: [DONE]\n", "", false),
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void a_chat_stream_is_read(void **state UNUSED) {
    check_stream(STR(": OPENROUTER PROCESSING\n\n"
                     "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\r\n\r\n"
                     "event: message_delta\ndata: {\"usage\":{\"output_tokens\":15}}\n\n"
                     "data: [DONE]\n\n"),
                 "|{\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}|74;"
                 "message_delta|{\"usage\":{\"output_tokens\":15}}|60;|[DONE]|14;",
                 true);
}

// --- boundaries ---

// Puts "<n>" in where the id of event n goes, as the gateway does; notes where in the stream each event ends.
struct numbering {
    struct sse sse;
    struct str bytes; // being fed
    size_t done;      // of them, are in `out`
    struct buf out;
    size_t fed; // before them
    size_t ends[8];
};

static void on_boundary(struct sse *sse, size_t at) {
    struct numbering *n = container_of(sse, struct numbering, sse);
    check(at > n->done && at <= n->bytes.len);
    check(sse_at_boundary(sse));
    check(sse->events > 0 && sse->events <= ARRAY_LEN(n->ends));
    check_ok(buf_append(&n->out, n->bytes.ptr + n->done, at - 1 - n->done));
    check_ok(buf_printf(&n->out, "<%u>", (unsigned)(sse->events - 1)));
    check_ok(buf_append(&n->out, n->bytes.ptr + at - 1, 1));
    n->ends[sse->events - 1] = n->fed + at;
    n->done = at;
}

static void ignore_event(struct sse *sse UNUSED, const struct sse_event *event UNUSED) {}

static void numbering_init(struct numbering *n, bool with_events) {
    *n = (struct numbering){.fed = 0};
    sse_init(&n->sse, with_events ? ignore_event : NULL);
    n->sse.on_boundary = on_boundary;
    buf_init(&n->out, 1 << 20);
}

static void feed_numbering(struct numbering *n, struct str s) {
    n->bytes = s;
    n->done = 0;
    sse_feed(&n->sse, s);
    struct str rest = str_skip(s, n->done);
    check_ok(buf_append(&n->out, rest.len ? rest.ptr : "", rest.len));
    n->fed += s.len;
}

static void check_numbering(struct numbering *n, const struct numbering *wanted) {
    check(str_eq(buf_str(&n->out), buf_str(&wanted->out)));
    check_int(n->sse.events, wanted->sse.events);
    check(memcmp(n->ends, wanted->ends, sizeof n->ends) == 0);
    sse_finish(&n->sse);
    buf_finish(&n->out);
}

static void boundaries_are_where_an_id_belongs(void **state UNUSED) {
    static const struct {
        struct str stream;
        const char *numbered;
    } rows[] = {
        {STR_INIT("data: a\n\ndata: b\n\n"), "data: a\n<0>\ndata: b\n<1>\n"},
        {STR_INIT("data: a\r\rdata: b\r\r"), "data: a\r<0>\rdata: b\r<1>\r"},
        {STR_INIT("data: a\r\n\r\ndata: b\r\n\r\n"), "data: a\r\n<0>\r\ndata: b\r\n<1>\r\n"},
        {STR_INIT("data: a\r\n\ndata: b\n\r\ndata: c\n\rd\r\n\r"),
         "data: a\r\n<0>\ndata: b\n<1>\r\ndata: c\n<2>\rd\r\n<3>\r"},
        {STR_INIT("\xEF\xBB\xBF"
                  "data: a\n\n"),
         "\xEF\xBB\xBF"
         "data: a\n<0>\n"},
        {STR_INIT("\xEF\xBB\xBF\n\n"), "\xEF\xBB\xBF\n\n"},
        {STR_INIT("\xEF\xBB\n\n"), "\xEF\xBB\n<0>\n"},
        {STR_INIT(": ping\n\n\n: pong\n\ndata: a\n: c\n\n"), ": ping\n\n\n: pong\n\ndata: a\n: c\n<0>\n"},
        {STR_INIT("\r\n\r\nx\n\n\n\n"), "\r\n\r\nx\n<0>\n\n\n"},
        {STR_INIT("x\n\ny\n\nz"), "x\n<0>\ny\n<1>\nz"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct str stream = rows[i].stream;
        struct numbering whole;
        numbering_init(&whole, false);
        feed_numbering(&whole, stream);
        check_str(buf_str(&whole.out), rows[i].numbered);
        for (size_t at = 0; at <= stream.len; at++) {
            for (size_t second = at; second <= stream.len; second++) {
                struct numbering split;
                numbering_init(&split, second % 2);
                feed_numbering(&split, str_first(stream, at));
                feed_numbering(&split, str_first(str_skip(stream, at), second - at));
                feed_numbering(&split, str_skip(stream, second));
                check_numbering(&split, &whole);
            }
        }
        struct numbering single;
        numbering_init(&single, false);
        for (size_t at = 0; at < stream.len; at++) {
            feed_numbering(&single, str_first(str_skip(stream, at), 1));
        }
        check_numbering(&single, &whole);
        check_numbering(&whole, &whole);
    }
}

// What was put in changes nothing but ids: read again, the events are the same.
static void numbered_streams_hold_the_same_events(void **state UNUSED) {
    struct str stream = STR(": c\r\n\r\ndata: a\r\ndata: b\r\n\r\nevent: x\rdata: y\r\rdata: z\n\n");
    struct recorder plain, numbered;
    struct numbering n;
    recorder_init(&plain);
    recorder_init(&numbered);
    numbering_init(&n, false);
    feed(&plain.sse, stream);
    feed_numbering(&n, stream);
    check_int(plain.sse.events, 3);
    struct str out = buf_str(&n.out);
    for (size_t at = 0; at < out.len; at++) { // "<n>" becomes a field's line: as many bytes as the line's end
        char byte = out.ptr[at] == '>' ? '\n' : out.ptr[at];
        feed(&numbered.sse, str_from(&byte, 1));
    }
    struct str a = buf_str(&plain.log), b = buf_str(&numbered.log);
    check_str(a, "|a\nb|26;x|y|19;|z|9;");
    check_str(b, "|a\nb|29;x|y|22;|z|12;");
    sse_finish(&n.sse);
    buf_finish(&n.out);
    recorder_finish(&plain);
    recorder_finish(&numbered);
}

// --- limits ---

static void feed_bytes(struct sse *sse, char byte, size_t n, size_t piece) {
    static char bytes[64 * 1024];
    memset(bytes, byte, sizeof bytes);
    for (; n; n -= MIN(n, piece)) {
        sse_feed(sse, str_from(bytes, MIN(n, piece)));
    }
}

struct counter {
    struct sse sse;
    size_t len; // of the last event's data
    bool truncated;
    unsigned events;
};

static void count(struct sse *sse, const struct sse_event *event) {
    struct counter *c = container_of(sse, struct counter, sse);
    c->len = event->data.len;
    c->truncated = event->truncated;
    c->events++;
}

static void counter_init(struct counter *c) {
    *c = (struct counter){.events = 0};
    sse_init(&c->sse, count);
}

static void check_data_of(size_t lines, size_t len, size_t piece, bool truncated) {
    struct counter c;
    counter_init(&c);
    size_t whole = 0;
    for (size_t i = 0; i < lines; i++) {
        sse_feed(&c.sse, STR("data: "));
        feed_bytes(&c.sse, 'x', len, piece);
        sse_feed(&c.sse, STR("\n"));
        whole += len + (i > 0);
    }
    check(!sse_at_boundary(&c.sse));
    sse_feed(&c.sse, STR("\n"));
    check_int(c.events, 1);
    check_int(c.truncated, truncated);
    check_int(c.len, truncated ? 0 : whole);
    sse_feed(&c.sse, STR("data: small\n\n")); // the next one is whole again
    check_int(c.len, 5);
    check(!c.truncated);
    sse_finish(&c.sse);
}

static void data_is_kept_up_to_the_limit(void **state UNUSED) {
    static const size_t pieces[] = {1, 1000, 65536};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        check_data_of(1, SSE_DATA_MAX - 1, pieces[i], false);
        check_data_of(1, SSE_DATA_MAX, pieces[i], false);
        check_data_of(1, SSE_DATA_MAX + 1, pieces[i], true);
        check_data_of(2, SSE_DATA_MAX / 2 - 1, pieces[i], false);
        check_data_of(2, SSE_DATA_MAX / 2, pieces[i], true); // the LF between them counts
        check_data_of(1, 1 << 20, pieces[i], true);
    }
    check_data_of(SSE_DATA_MAX + 1, 0, 1, false);
    check_data_of(SSE_DATA_MAX + 2, 0, 1, true);
}

static void the_limit_may_be_another_one(void **state UNUSED) {
    static const size_t sizes[] = {10, 11, 200 * 1000, 200 * 1000 + 1};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct counter c;
        counter_init(&c);
        c.sse.data_max = i < 2 ? 10 : 200 * 1000;
        sse_feed(&c.sse, STR("data:"));
        feed_bytes(&c.sse, 'x', sizes[i], 777);
        sse_feed(&c.sse, STR("\n\n"));
        check_int(c.events, 1);
        check_int(c.truncated, sizes[i] > c.sse.data_max);
        check_int(c.len, c.truncated ? 0 : sizes[i]);
        sse_finish(&c.sse);
    }
}

static void memory_stays_bounded_whatever_comes(void **state UNUSED) {
    struct counter c;
    counter_init(&c);
    static const char *const starts[] = {"", "data: ", "event: ", ": ", "x", "data: a\nevent: "};
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        sse_feed(&c.sse, str_c(starts[i]));
        feed_bytes(&c.sse, 'y', 10 << 20, 65536);
        check(c.sse.kept_room <= SSE_DATA_MAX);
        sse_feed(&c.sse, STR("\n\n"));
        check(c.sse.kept_room <= 4096); // nothing big between events
    }
    sse_finish(&c.sse);
}

static void a_type_is_kept_up_to_its_limit(void **state UNUSED) {
    struct recorder r;
    for (size_t len = SSE_TYPE_MAX - 1; len <= SSE_TYPE_MAX + 1; len++) {
        recorder_init(&r);
        sse_feed(&r.sse, STR("event: "));
        feed_bytes(&r.sse, 't', len, 7);
        sse_feed(&r.sse, STR("\ndata: d\n\n"));
        check_int(str_find(buf_str(&r.log), '|'), MIN(len, (size_t)SSE_TYPE_MAX));
        check_int(str_search(buf_str(&r.log), STR("|!")) < buf_len(&r.log), len > SSE_TYPE_MAX);
        recorder_finish(&r);
    }
}

static void bytes_add_up_to_the_stream(void **state UNUSED) {
    struct recorder r;
    recorder_init(&r);
    sse_feed(&r.sse, STR("data: "));
    feed_bytes(&r.sse, 'x', 10 << 20, 65536);
    sse_feed(&r.sse, STR("\n\n"));
    check_str(buf_str(&r.log), "||!10485768;");
    recorder_finish(&r);
}

static void random_streams_do_not_depend_on_the_split(void **state UNUSED) {
    static const char *const parts[] = {"data", "data:", "data: ", "event", "event: ", ":",   ": ",
                                        "\n",   "\n\n",  "\r",     "\r\n",  "\n",      "x",   "id: 1",
                                        " ",    "\xEF",  "\xBB",   "\xBF",  "usage",   "\r\r"};
    srand(3);
    for (int round = 0; round < 3000; round++) {
        struct buf stream;
        struct recorder whole;
        struct recorder split;
        buf_init(&stream, 4096);
        recorder_init(&whole);
        recorder_init(&split);
        for (int n = rand() % 60; n > 0; n--) {
            check_ok(buf_str_append(&stream, str_c(parts[(size_t)rand() % ARRAY_LEN(parts)])));
        }
        feed(&whole.sse, buf_str(&stream));
        for (struct str rest = buf_str(&stream); rest.len;) {
            size_t n = (size_t)rand() % 5;
            feed(&split.sse, str_first(rest, n));
            rest = str_skip(rest, n);
        }
        check(str_eq(buf_str(&whole.log), buf_str(&split.log)));
        check_int(sse_at_boundary(&whole.sse), sse_at_boundary(&split.sse));
        buf_finish(&stream);
        recorder_finish(&whole);
        recorder_finish(&split);
    }
}

// --- memory ---

static void read_stream(void *arg UNUSED) {
    struct counter c;
    counter_init(&c);
    for (unsigned i = 1; i <= 3; i++) {
        sse_feed(&c.sse, STR("event: e\ndata: "));
        feed_bytes(&c.sse, 'x', 10000, 100);
        sse_feed(&c.sse, STR("\n\n"));
        check_int(c.events, i); // told all the same
        check_int(c.len, c.truncated ? 0 : 10000);
    }
    sse_finish(&c.sse);
}

static void survives_every_failing_allocation(void **state UNUSED) {
    check(every_allocation_fails(read_stream, NULL) > 5);
}

static void finish_accepts_zeroed_and_leaves_zeroed(void **state UNUSED) {
    struct counter c = {.events = 0};
    sse_finish(&c.sse);
    counter_init(&c);
    sse_feed(&c.sse, STR("data: x"));
    sse_finish(&c.sse);
    sse_finish(&c.sse);
    check(c.sse.kept == NULL && c.sse.on_event == NULL);
}

TESTS(TEST(events_as_the_standard_has_them), TEST(line_ends_of_every_kind), TEST(a_mark_is_dropped_at_the_start_only),
      TEST(comments_are_no_events), TEST(fields_of_every_shape), TEST(a_nul_is_a_byte_like_any_other),
      TEST(an_event_without_its_blank_line_is_none), TEST(a_chat_stream_is_read),
      TEST(boundaries_are_where_an_id_belongs), TEST(numbered_streams_hold_the_same_events),
      TEST(data_is_kept_up_to_the_limit), TEST(the_limit_may_be_another_one), TEST(memory_stays_bounded_whatever_comes),
      TEST(a_type_is_kept_up_to_its_limit), TEST(bytes_add_up_to_the_stream),
      TEST(random_streams_do_not_depend_on_the_split), TEST(survives_every_failing_allocation),
      TEST(finish_accepts_zeroed_and_leaves_zeroed))
