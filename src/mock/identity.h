// SPDX-License-Identifier: MIT
// Which call a call is, and whose.
#pragma once
#include "base/fields.h"
#include "mock/ask.h"
#include "mock/draw.h"

// The key of all that is drawn for a call (mock/draw.h): of its field X-Mock-Nonce, else of its body, and of how many
// with the same came before. Not of X-Request-Id: gateways make those up, another one in every run.
uint64_t identity_key(struct draw_counts *counts, uint64_t seed, const struct fields *fields, struct str body);

// The session that a call belongs to: its field X-Mock-Session, else the body's `user` (OpenAI) or
// `metadata.user_id` (Anthropic), else its cookies. ptr == NULL: none.
struct str identity_session(const struct fields *fields, struct ask *ask);
