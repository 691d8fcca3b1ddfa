// SPDX-License-Identifier: MIT
// Two conns joined in memory, on one loop: what one writes the other reads, in a later turn. The built-in
// mock is reached this way, and flow tests put faults in: a tiny window gives short reads and writes at every
// byte, mem_break a reset.
#pragma once
#include "net/conn.h"

enum { MEM_WINDOW = 64 * 1024 };

// Each direction holds at most `window` bytes that were written and not yet read.
void mem_pair(struct loop *loop, size_t window, struct conn **a, struct conn **b);
// Both ends fail with ERR_RESET from now on; bytes in flight are lost. For tests.
void mem_break(struct conn *c);
