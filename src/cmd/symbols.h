// SPDX-License-Identifier: MIT
// The name of a function of this program, from the symbols in its own file; read when asked, nothing is kept.
#pragma once
#include "ev/activity.h"
#include "base/attr.h"

// "on_ready", or where there are no symbols "0x1b2c0 of /usr/bin/thaw", as addr2line(1) takes it.
void symbol_name(activity_callback *function, char *out, size_t size);
