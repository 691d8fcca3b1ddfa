// SPDX-License-Identifier: MIT
// The query of a request target, name=value&..., as forms write it (WHATWG URL, section 5.1): '+' is a blank, %41 a
// byte; what only looks like an escape stays as it is.
#pragma once
#include "base/err.h"
#include "base/str.h"

// The first value of that name, decoded into `room`: OK, ERR_EOF when the name is not there, ERR_FULL when the value is
// longer than `size`. A name without '=' has an empty value.
MUSTCHECK enum err query_find(struct str target, struct str name, char *room, size_t size, struct str *value);
