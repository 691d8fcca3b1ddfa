// SPDX-License-Identifier: MIT
// Whatever an upstream sends: reading it is safe, says the same twice, leaves what was in the buffer, points into the
// text, and goes without memory that it is not given.
#include "base/mem.h"
#include "fuzz.h"
#include "llm/json.h"
#include "llm/reply.h"

enum { CAP = 64 << 20, SMALL = 20 };

static const struct str types[] = {STR_INIT(""), STR_INIT("response.output_text.delta"),
                                   STR_INIT("content_block_delta"), STR_INIT("ping")};

static bool known(enum err e) { return e == OK || e == ERR_INVALID || e == ERR_FULL; }

static void check_text(struct str text, struct buf *out) {
    enum reply_kind kind = REPLY_NO_TEXT;
    size_t before = buf_len(out);
    enum err e = reply_text(text, out, &kind);
    MUST(known(e));
    MUST(e == OK || buf_len(out) == before);
    MUST(e != OK || kind == REPLY_REFUSAL || (kind == REPLY_TEXT) == (buf_len(out) > before));
    MUST(buf_len(out) - before <= text.len); // unescaping never lengthens
}

static void check_delta(struct str type, struct str text, struct buf *out) {
    size_t before = buf_len(out);
    enum err e = reply_delta(type, text, out);
    MUST(e == OK || e == ERR_FULL);
    MUST(e == OK || buf_len(out) == before);
    MUST(buf_len(out) - before <= text.len);
}

static void check_id(struct str text) {
    struct str raw;
    if (reply_id(text, &raw) != OK) {
        return;
    }
    MUST(raw.ptr > text.ptr && raw.ptr + raw.len < text.ptr + text.len);
    struct json *json = json_open(str_from(raw.ptr - 1, raw.len + 2), CAP);
    MUST(json && json_is_string(json_root(json)));
    json_close(json);
}

static void check_part(struct str s, struct buf *room) {
    MUST(!s.ptr || (s.ptr >= room->ptr && s.ptr + s.len <= room->ptr + room->end));
}

static void check_error(struct str text, struct buf *room) {
    struct reply_error error;
    size_t before = buf_len(room);
    enum err e = reply_error(text, room, &error);
    MUST(known(e));
    if (e != OK) {
        MUST(buf_len(room) == before);
        return;
    }
    check_part(error.message, room);
    check_part(error.type, room);
    check_part(error.code, room);
    MUST(error.message.ptr || error.type.ptr || error.code.ptr);
    MUST(buf_len(room) - before == error.message.len + error.type.len + error.code.len);
}

// Everything there is to read, behind two bytes that stay.
static void read_all(struct str text, struct buf *out) {
    MUST(buf_append(out, "==", 2) == OK);
    check_text(text, out);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        check_delta(types[i], text, out);
    }
    check_error(text, out);
    MUST(str_starts(buf_str(out), STR("==")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str text = str_from((const char *)data, size);
    struct buf once, twice, small;
    uint64_t n = 0;
    buf_init(&once, CAP);
    buf_init(&twice, CAP);
    buf_init(&small, SMALL);
    read_all(text, &once);
    read_all(text, &twice);
    read_all(text, &small);
    MUST(str_eq(buf_str(&once), buf_str(&twice)));
    check_id(text);
    MUST(known(reply_sequence(text, &n)));
    struct dice dice = dice_from(data, size);
    buf_clear(&twice);
    mem_fail_after(1 + (unsigned)(dice_roll(&dice) % 8), 0);
    enum reply_kind kind;
    enum err e = reply_text(text, &twice, &kind);
    MUST(known(e) || (e == ERR_NOMEM && mem_fail_fired()));
    MUST(e == OK || buf_len(&twice) == 0);
    mem_fail_after(0, 0);
    buf_finish(&once);
    buf_finish(&twice);
    buf_finish(&small);
    return 0;
}
