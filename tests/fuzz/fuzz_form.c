// SPDX-License-Identifier: MIT
// Any bytes read as a form give pairs of UTF-8; written as a form again they read as the same pairs. What is plain text
// already comes out as it went in.
#include "base/mem.h"
#include "fuzz.h"
#include "llm/form.h"
#include "llm/json.h"

enum { CAP = 64 << 20 };

static void append_encoded(struct buf *out, struct str s) {
    for (size_t i = 0; i < s.len; i++) {
        MUST(buf_printf(out, "%%%02x", (unsigned)(unsigned char)s.ptr[i]) == OK);
    }
}

// As a JSON string, which mends whatever is no UTF-8: nothing may be left to mend.
static void check_utf8(struct str s) {
    struct buf quoted;
    buf_init(&quoted, CAP);
    MUST(json_append_string(&quoted, s) == OK);
    struct json *json = json_open(buf_str(&quoted), CAP);
    MUST(json && str_eq(json_string(json_root(json)), s));
    json_close(json);
    buf_finish(&quoted);
}

static bool is_plain(struct str s) {
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.ptr[i] >= 0x80 || s.ptr[i] == '%' || s.ptr[i] == '+') {
            return false;
        }
    }
    return true;
}

// Reads all pairs; each is written to `log` with its lengths, and encoded to `encoded`.
static unsigned read_all(struct str text, struct buf *log, struct buf *encoded) {
    struct form form = form_of(text);
    struct buf room;
    struct str name;
    struct str value;
    unsigned n = 0;
    enum err e;
    buf_init(&room, text.len * 3);
    while ((e = form_next(&form, &room, &name, &value)) == OK) {
        check_utf8(name);
        check_utf8(value);
        MUST(buf_printf(log, "%zu %zu ", name.len, value.len) == OK);
        MUST(buf_str_append(log, name) == OK && buf_str_append(log, value) == OK);
        append_encoded(encoded, name);
        MUST(buf_append(encoded, "=", 1) == OK);
        append_encoded(encoded, value);
        MUST(buf_append(encoded, "&", 1) == OK);
        n++;
    }
    MUST(e == ERR_EOF);
    buf_finish(&room);
    return n;
}

// With too little room a pair is refused and the next one is read.
static void read_with_little_room(struct str text, unsigned wanted) {
    struct form form = form_of(text);
    struct buf room;
    struct str name;
    struct str value;
    unsigned n = 0;
    enum err e;
    for (buf_init(&room, 5); (e = form_next(&form, &room, &name, &value)) != ERR_EOF; n++) {
        MUST(e == ERR_FULL || (e == OK && name.len + value.len <= 5));
    }
    MUST(n == wanted);
    buf_finish(&room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str text = str_from((const char *)data, size);
    struct buf log, again, encoded, ignored;
    buf_init(&log, CAP);
    buf_init(&again, CAP);
    buf_init(&encoded, CAP);
    buf_init(&ignored, CAP);
    unsigned n = read_all(text, &log, &encoded);
    MUST(n == read_all(buf_str(&encoded), &again, &ignored));
    MUST(str_eq(buf_str(&log), buf_str(&again)));
    MUST(str_eq(buf_str(&encoded), buf_str(&ignored)));
    read_with_little_room(text, n);
    if (n == 1 && is_plain(text) && str_find(text, '&') == size && str_find(text, '=') < size) {
        struct buf room;
        struct str name;
        struct str value;
        struct form form = form_of(text);
        buf_init(&room, size);
        MUST(form_next(&form, &room, &name, &value) == OK);
        MUST(str_eq(name, str_first(text, str_find(text, '='))));
        MUST(str_eq(value, str_skip(text, name.len + 1)));
        buf_finish(&room);
    }
    buf_finish(&log);
    buf_finish(&again);
    buf_finish(&encoded);
    buf_finish(&ignored);
    return 0;
}
