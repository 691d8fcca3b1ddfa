// SPDX-License-Identifier: MIT
// Errors as they are written, and what they are called.
#pragma once
#include "admit/quota.h"
#include "base/buf.h"
#include "base/fields.h"

// Appends {"type":"error","error":{"type":..,"message":..}}, as Anthropic has it, and no line break.
MUSTCHECK enum err answer_write_messages_error(struct buf *out, const char *type, struct str message);
// Appends {"message":..,"type":..,"param":..,"code":..}; and the same as {"error":..}, a whole answer.
MUSTCHECK enum err answer_write_object(struct buf *out, const char *type, const char *param, const char *code,
                                       struct str message);
MUSTCHECK enum err answer_write_error(struct buf *out, const char *type, const char *param, const char *code,
                                      struct str message);
// The one of the two that the API wants, with what an error of that status is called; `code` NULL: likewise. `param` may
// be NULL.
MUSTCHECK enum err answer_write_status(struct buf *out, bool messages, int status, const char *param, const char *code,
                                       struct str message);
// What an error of that status is called where nothing more exact is known; never NULL.
struct answer_kind {
    int status;
    const char *type; // OpenAI's
    const char *code;
    const char *messages; // the type in Anthropic's terms
};
const struct answer_kind *answer_kind(int status);

// Adds x-ratelimit-* as OpenAI has them, in the place of the upstream's; their values lie in `room`.
struct quota_text {
    char v[6][24];
};
void answer_add_quota(struct fields *fields, const struct quota_look *look, struct quota_text *room);
