// SPDX-License-Identifier: MIT
// Request bodies of our own, for recipes: everything that comes from outside is quoted.
#pragma once
#include <stdbool.h>

#include "base/buf.h"

// Appends the body of a POST /chat/completions. system.ptr == NULL: no system message; max_tokens and temperature may
// be NULL. ERR_INVALID: a temperature that is no finite number. All or nothing.
MUSTCHECK enum err compose_chat(struct buf *out, struct str model, struct str system, struct str prompt,
                                const uint64_t *max_tokens, const double *temperature, bool stream);
