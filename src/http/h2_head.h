// SPDX-License-Identifier: MIT
// A head as HTTP/2 brings it: one decoded field after the other (HPACK hands out references that cost the peer one byte
// each, so everything is counted here: facts A23, A24). What nghttp2 leaves open of RFC 9113 section 8 is decided here.
#pragma once
#include "http/msg.h"

struct h2_block; // gathers one head at a time

// NULL without memory.
MUSTCHECK struct h2_block *h2_block_create(const struct http_limits *limits, bool request);
void h2_block_destroy(struct h2_block *b);
void h2_block_reset(struct h2_block *b);
// Names in lower case, pseudo-header fields first (nghttp2 sees to it). False: so far beyond the limits that the rest
// need not be looked at.
MUSTCHECK bool h2_block_add(struct h2_block *b, struct str name, struct str value);
// The whole head was added. `end`: the message ends with it. OK: *head, valid until the reset; else *problem says what is
// wrong: ERR_HEAD_FULL, ERR_INVALID, ERR_TARGET_LONG, ERR_METHOD, ERR_EXPECT, ERR_FRAMING; ERR_PROTOCOL for an answer.
MUSTCHECK enum err h2_block_finish(struct h2_block *b, bool end, struct head **head, const char **problem);
// A copy in one piece of memory, freed by free(); NULL without memory.
MUSTCHECK struct head *h2_head_keep(const struct head *head);
