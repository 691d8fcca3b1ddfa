// SPDX-License-Identifier: MIT
// One error type for the whole program. OK is 0; a function that can fail returns `enum err` and gives its
// result through its last pointer parameters. ERR_AGAIN and ERR_EOF are values, not failures. errno is
// converted at the system call (err_from_errno) and logged once, where it is detected.
#pragma once
#include "base/attr.h"

enum err {
#define ERR(NAME, name, class, status, text) ERR_##NAME,
#include "base/err.def"
#undef ERR
    ERR_COUNT
};
#define OK ERR_OK

enum err_class { ERR_CLASS_NONE, ERR_CLASS_LOCAL, ERR_CLASS_CLIENT, ERR_CLASS_UPSTREAM };

// Short text for people, lower case, no full stop.
const char *err_text(enum err e);
// The identifier in lower case ("tls_verify"), for logs and for the `code` member of error bodies.
const char *err_name(enum err e);
enum err_class err_class(enum err e);
// The HTTP status that tells a client of it; 0 if none does.
int err_status(enum err e);
enum err err_from_errno(int errno_value);
