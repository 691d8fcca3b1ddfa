// SPDX-License-Identifier: MIT
// The fields of an answer's head: OpenAI's, or Anthropic's where the answer is in its shape.
#pragma once
#include "base/fields.h"
#include "mock/answer.h"

enum { HEAD_FIELDS = 24 }; // at most that many are added

// What the values of some fields are written into.
struct head_texts {
    char id[40];
    char reset[24];
};

// `f` has room for HEAD_FIELDS and borrows from *texts. `id` of the call, 0: none. `allow`: what a 405 says.
void head_fields(struct fields *f, struct head_texts *texts, const struct script *script, const struct answer *a,
                 uint64_t id, const char *allow);
