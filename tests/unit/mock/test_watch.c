// SPDX-License-Identifier: MIT
// Frames are read as a terminal would: rows and columns are counted, sequences are known ones.
#include "mock/watch.h"

#include "check.h"
#include "net/mem.h"

enum { CALLS = 9, TEXT_CAP = 1 << 20 };

struct world {
    struct fake_clock fake;
    struct loop loop;
    struct mock *mock;
    struct conn *clients[CALLS];
    struct watch watch;
    struct buf text;
};

static void settle(struct world *w) {
    while (loop_turn(&w->loop, 0)) {
    }
}

static void pass_ms(struct world *w, uint64_t ms) {
    for (; ms; ms--) {
        w->fake.ns += 1000000;
        settle(w);
    }
}

static void ignore(struct conn *c UNUSED, unsigned events UNUSED) {}

static void ask(struct world *w, unsigned i, const char *model) {
    struct conn *c = mock_connect(w->mock);
    char body[200];
    char text[400];
    size_t written = 0;
    c->on_event = ignore;
    snprintf(body, sizeof body, "{\"model\":\"%s\",\"messages\":[{\"content\":\"x\"}]}", model);
    int n =
        snprintf(text, sizeof text, "POST /v1/chat/completions HTTP/1.1\r\nHost: m\r\nContent-Length: %zu\r\n\r\n%s",
                 strlen(body), body);
    struct iovec v = {text, (size_t)n};
    check_ok(conn_writev(c, &v, 1, &written));
    check_int(written, n);
    w->clients[i] = c;
    settle(w);
}

// Nine calls of a second on two seats, one each 100 ms; now it is 1.05 s after the first.
static void world_init(struct world *w) {
    struct mock_options options = {.times.latency = LATENCY_MS(1000)};
    *w = (struct world){.mock = NULL};
    check(capacity_parse(STR("pool:2"), &options.capacity) == NULL);
    fake_clock_init(&w->fake);
    check_ok(loop_init(&w->loop, &(struct loop_options){.clock = &w->fake.clock}));
    w->mock = mock_create(&w->loop, &options);
    buf_init(&w->text, TEXT_CAP);
    for (unsigned i = 0; i < CALLS; i++) {
        ask(w, i, i == 3 ? "evil\\u001b[2J\\u00e9" : "model");
        pass_ms(w, 100);
    }
    pass_ms(w, 150);
}

static void world_finish(struct world *w) {
    for (unsigned i = 0; i < CALLS; i++) {
        conn_close(w->clients[i]);
    }
    settle(w);
    mock_destroy(w->mock);
    loop_finish(&w->loop);
    buf_finish(&w->text);
}

static struct str frame(struct world *w, unsigned columns, unsigned rows, bool colour) {
    struct watch_size size = {columns, rows, colour};
    buf_clear(&w->text);
    check_ok(watch_frame(&w->watch, w->mock, "a title", &size, &w->text));
    return buf_str(&w->text);
}

// What a terminal would show; *rows counts, and no row may be longer than `columns`.
static void show_screen(struct str s, unsigned columns, unsigned *rows, struct buf *screen) {
    unsigned column = 0;
    *rows = 1;
    buf_init(screen, TEXT_CAP);
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\x1b') {
            check(s.ptr[i + 1] == '[');
            for (i += 2; s.ptr[i] < '@'; i++) {
                check(hex_value(s.ptr[i]) >= 0);
            }
            check(strchr("HJKm", s.ptr[i]) != NULL);
            continue;
        }
        if (s.ptr[i] == '\n') {
            (*rows)++;
            column = 0;
        } else {
            check(s.ptr[i] >= ' ' && s.ptr[i] <= '~');
            check(++column <= columns);
        }
        check_ok(buf_append(screen, s.ptr + i, 1));
    }
}

static void check_has(struct str screen, const char *wanted) {
    if (str_search(screen, str_c(wanted)) == screen.len) {
        fail_msg("no \"%s\" in\n%.*s", wanted, STR_ARG(screen));
    }
}

static void a_frame_tells_who_is_served_and_who_waits(void **state UNUSED) {
    struct world w;
    struct buf screen;
    unsigned rows = 0;
    world_init(&w);
    show_screen(frame(&w, 80, 24, false), 80, &rows, &screen);
    struct str s = buf_str(&screen);
    check(rows <= 24);
    check_has(s, " thaw mock  a title\n");
    check_has(s, " in flight 8 (max 9)   in service 2 (max 2)   waiting 6 (max 7)\n");
    check_has(s, " whole 1   cut 0   gone 0   429 0   waits p50 0ms p99 800ms\n");
    check_has(s, "    2       2  model ");
    check_has(s, "    1       3  model ");
    check_has(s, "            4  evil?[2J?? ");
    check_has(s, "            9  model ");
    check(str_search(s, STR("            9")) > str_search(s, STR("    1       3")));
    buf_finish(&screen);
    world_finish(&w);
}

// The third call: 800 ms of wait, 50 ms of service, 950 ms to go; 40 columns are 1.8 s.
static void a_bar_is_wait_service_and_rest(void **state UNUSED) {
    struct world w;
    struct buf screen;
    unsigned rows = 0;
    world_init(&w);
    show_screen(frame(&w, 80, 24, false), 80, &rows, &screen);
    check_has(buf_str(&screen), "    1       3  model                    .................#----------------------\n");
    check_has(buf_str(&screen), "0s                                  1.8s\n");
    buf_finish(&screen);
    world_finish(&w);
}

// Longer than what is drawn in one go: 960 columns are 1.8 s.
static void a_bar_is_as_wide_as_the_terminal(void **state UNUSED) {
    struct world w;
    struct buf screen;
    unsigned rows = 0;
    char wanted[1010];
    world_init(&w);
    show_screen(frame(&w, 1000, 24, false), 1000, &rows, &screen);
    int n = snprintf(wanted, sizeof wanted, "    1       3  model                    ");
    memset(wanted + n, '.', 426); // 800 ms
    memset(wanted + n + 426, '#', 27);
    memset(wanted + n + 453, '-', 507);
    snprintf(wanted + n + 960, 2, "\n");
    check_has(buf_str(&screen), wanted);
    buf_finish(&screen);
    world_finish(&w);
}

static void a_frame_fits_any_terminal(void **state UNUSED) {
    struct world w;
    world_init(&w);
    for (unsigned columns = 1; columns < 200; columns += columns < 60 ? 1 : 17) {
        for (unsigned limit = 1; limit < 30; limit++) {
            struct buf screen;
            unsigned rows = 0;
            show_screen(frame(&w, columns, limit, limit % 2), columns, &rows, &screen);
            check(rows <= limit);
            buf_finish(&screen);
        }
    }
    check_int(frame(&w, 100000, 100000, true).len > 0, 1);
    world_finish(&w);
}

static void colours_come_when_they_are_wanted(void **state UNUSED) {
    struct world w;
    world_init(&w);
    struct str plain = frame(&w, 80, 24, false);
    check(str_search(plain, STR("\x1b[0m")) == plain.len && str_search(plain, STR("\x1b[1m")) == plain.len);
    struct str coloured = frame(&w, 80, 24, true);
    check(str_search(coloured, STR("\x1b[0m")) < coloured.len);
    world_finish(&w);
}

static void a_line_has_the_counts(void **state UNUSED) {
    struct world w;
    world_init(&w);
    check_ok(watch_line(&w.watch, w.mock, &w.text));
    check_str(buf_str(&w.text),
              "in flight 8, in service 2, waiting 6, whole 1, cut 0, gone 0, 0.0/s, waits p50 0ms p99 800ms\n");
    buf_clear(&w.text);
    pass_ms(&w, 1000); // two more are over
    check_ok(watch_line(&w.watch, w.mock, &w.text));
    check_has(buf_str(&w.text), "whole 3, cut 0, gone 0, 2.0/s, ");
    world_finish(&w);
}

TESTS(TEST(a_frame_tells_who_is_served_and_who_waits), TEST(a_bar_is_wait_service_and_rest),
      TEST(a_bar_is_as_wide_as_the_terminal), TEST(a_frame_fits_any_terminal), TEST(colours_come_when_they_are_wanted),
      TEST(a_line_has_the_counts))
