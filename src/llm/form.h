// SPDX-License-Identifier: MIT
// Names and values out of application/x-www-form-urlencoded bodies and query strings, as browsers read them (WHATWG
// URL, section 5.1): '+' is a space, '%' without two hex digits stays as it is, "a" is "a=", "&&" is nothing, and what
// is no UTF-8 becomes U+FFFD, so that names and values are always text. They may hold any character, NUL as well.
#pragma once
#include "base/buf.h"

struct form {
    struct str rest; // private
};

// Without the '?'. The text must live as long as the form is used.
static inline struct form form_of(struct str text) { return (struct form){text}; }
// The query of a request target; nothing where there is none.
static inline struct form form_of_target(struct str target) {
    return (struct form){str_skip(target, str_find(target, '?') + 1)};
}

// The next pair, in the order of the text; a name may occur again. What is decoded lies in room, which is emptied
// first, and stays there until room changes. ERR_EOF: there are no more. ERR_FULL: the pair takes more than the cap of
// room (three times its text is always enough); ERR_NOMEM. After these two the pair is gone and the next may be read.
MUSTCHECK enum err form_next(struct form *form, struct buf *room, struct str *name, struct str *value);
