// SPDX-License-Identifier: MIT
// What makes a call of the prober unlike any other, so that no cache and no joining of equal calls answers it, and by
// which the mock's journal tells which of them it was: "thaw-" and 16 hex digits, the run's 8 before the call's 8.
#pragma once
#include "base/str.h"

enum { NONCE_TEXT = 21 };
#define NONCE_FIELD "X-Thaw-Probe"

static inline uint64_t nonce_make(uint32_t run, uint32_t call) { return (uint64_t)run << 32 | call; }
// Writes NONCE_TEXT bytes; returns them.
struct str nonce_format(uint64_t nonce, char out[NONCE_TEXT]);
// The first one in a text; 0: there is none.
uint64_t nonce_find(struct str text);
