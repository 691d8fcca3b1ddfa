// SPDX-License-Identifier: MIT
// A recording: whatever is in the file, reading ends and says where it is wrong; what was read is written and read
// again as the same; and any bytes are recorded as they are.
#include "fuzz.h"
#include "mock/recording.h"

enum { CAP = 1 << 22 };

// The bytes of all pieces, and how it ended.
static enum recording_part bytes_of(const struct recording *r, struct buf *bytes) {
    struct str rest = r->pieces;
    struct str lines;
    uint64_t at_ns = 0;
    enum recording_part part;
    while ((part = recording_next(&rest, &at_ns, &lines)) == RECORDING_PIECE) {
        MUST(recording_decode(lines, bytes) == OK);
    }
    MUST(rest.len == 0 && buf_len(bytes) == r->bytes && (part == RECORDING_END) == r->whole);
    return part;
}

static void rewrite(const struct recording *r, struct out *o) {
    struct field room[RECORDING_FIELDS_MAX];
    struct fields fields = FIELDS(room);
    struct str rest = r->fields;
    struct str name;
    struct str value;
    while (recording_field(&rest, &name, &value)) {
        MUST(name.len && fields_add(&fields, name, value) == OK);
    }
    recording_put_head(o, r, &fields);
    struct buf bytes;
    uint64_t at_ns = 0;
    enum recording_part part;
    rest = r->pieces;
    buf_init(&bytes, CAP);
    while ((part = recording_next(&rest, &at_ns, &name)) == RECORDING_PIECE) {
        buf_clear(&bytes);
        MUST(recording_decode(name, &bytes) == OK);
        recording_put_piece(o, at_ns, buf_str(&bytes));
    }
    recording_put_end(o, at_ns, part == RECORDING_END);
    buf_finish(&bytes);
}

static void same_again(const struct recording *r) {
    struct recording again;
    struct buf text, before, after;
    unsigned line = 0;
    const char *problem = NULL;
    buf_init(&text, CAP);
    buf_init(&before, CAP);
    buf_init(&after, CAP);
    struct out o = {&text, OK};
    rewrite(r, &o);
    MUST(o.e == OK && recording_parse(buf_str(&text), &again, &line, &problem) == OK);
    MUST(str_eq(r->method, again.method) && str_eq(r->target, again.target) && r->status == again.status);
    MUST(r->head_ns == again.head_ns && r->length == again.length && r->any_body == again.any_body);
    MUST(r->any_body || digest_equal(&r->body, &again.body));
    MUST(bytes_of(r, &before) == bytes_of(&again, &after) && str_eq(buf_str(&before), buf_str(&after)));
    buf_finish(&text);
    buf_finish(&before);
    buf_finish(&after);
}

static void records(struct str bytes) {
    struct buf text, back;
    struct recording r = {.method = STR("POST"), .target = STR("/"), .status = 200, .length = -1, .any_body = true};
    struct fields none = {NULL, 0, 0};
    unsigned line = 0;
    const char *problem = NULL;
    buf_init(&text, CAP);
    buf_init(&back, CAP);
    struct out o = {&text, OK};
    recording_put_head(&o, &r, &none);
    recording_put_piece(&o, 5, str_first(bytes, bytes.len / 3));
    recording_put_piece(&o, 6, str_skip(bytes, bytes.len / 3));
    recording_put_end(&o, 7, true);
    MUST(o.e == OK && recording_parse(buf_str(&text), &r, &line, &problem) == OK);
    MUST(bytes_of(&r, &back) == RECORDING_END && str_eq(buf_str(&back), bytes));
    buf_finish(&text);
    buf_finish(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str text = str_from((const char *)data, size);
    struct recording r;
    unsigned line = 0;
    const char *problem = NULL;
    if (size > 100000) {
        return 0;
    }
    if (recording_parse(text, &r, &line, &problem) == OK) {
        same_again(&r);
    } else {
        MUST(problem && line >= 1);
    }
    records(text);
    return 0;
}
