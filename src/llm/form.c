// SPDX-License-Identifier: MIT
#include "llm/form.h"

#include "llm/utf8.h"

enum { CHARACTER_MAX = 4 }; // bytes of UTF-8

static bool is_plain(char c) { return (unsigned char)c < 0x80 && c != '%' && c != '+'; }

static size_t plain_run(struct str s) {
    size_t n = 0;
    while (n < s.len && is_plain(s.ptr[n])) {
        n++;
    }
    return n;
}

// The byte that the front of s stands for; *taken is how many it takes.
static char decode_byte(struct str s, size_t *taken) {
    *taken = 1;
    if (s.ptr[0] == '+') {
        return ' ';
    }
    int high = s.ptr[0] == '%' && s.len > 2 ? hex_value(s.ptr[1]) : -1;
    int low = high >= 0 ? hex_value(s.ptr[2]) : -1;
    if (low < 0) {
        return s.ptr[0];
    }
    *taken = 3;
    return (char)(high * 16 + low);
}

// Takes one character, or what is none, off the front of *s. Its bytes may each be written with '%' or not.
static enum err append_character(struct buf *room, struct str *s) {
    char bytes[CHARACTER_MAX];
    size_t ends[CHARACTER_MAX]; // of each in s
    size_t n = 0;
    for (size_t at = 0; n < CHARACTER_MAX && at < s->len; n++) {
        size_t taken = 0;
        bytes[n] = decode_byte(str_skip(*s, at), &taken);
        ends[n] = at += taken;
    }
    bool valid = true;
    size_t len = (unsigned char)bytes[0] < 0x80 ? 1 : utf8_sequence(str_from(bytes, n), &valid);
    *s = str_skip(*s, ends[len - 1]);
    return valid ? buf_append(room, bytes, len) : buf_str_append(room, UTF8_REPLACEMENT);
}

static enum err append_decoded(struct buf *room, struct str s) {
    enum err e = OK;
    while (e == OK && s.len) {
        size_t run = plain_run(s);
        e = buf_append(room, s.ptr, run);
        s = str_skip(s, run);
        if (e == OK && s.len) {
            e = append_character(room, &s);
        }
    }
    return e;
}

static bool next_piece(struct form *form, struct str *piece) {
    do {
        if (!str_split(&form->rest, '&', piece)) {
            return false;
        }
    } while (piece->len == 0);
    return true;
}

enum err form_next(struct form *form, struct buf *room, struct str *name, struct str *value) {
    struct str piece;
    if (!next_piece(form, &piece)) {
        return ERR_EOF;
    }
    buf_clear(room);
    size_t equals = str_find(piece, '=');
    enum err e = append_decoded(room, str_first(piece, equals));
    size_t name_len = buf_len(room);
    e = e == OK ? append_decoded(room, str_skip(piece, equals + 1)) : e;
    if (e == OK) {
        *name = str_first(buf_str(room), name_len);
        *value = str_skip(buf_str(room), name_len);
    }
    return e;
}
