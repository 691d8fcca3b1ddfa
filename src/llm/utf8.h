// SPDX-License-Identifier: MIT
// UTF-8 as Unicode has it (version 15, section 3.9): private to llm/.
#pragma once
#include <stdbool.h>

#include "base/buf.h"

#define UTF8_REPLACEMENT STR("\xEF\xBF\xBD") // U+FFFD

// Looks at the sequence at the front of s, whose first byte is 0x80 or more. Returns how many bytes belong together;
// *valid tells whether they are a character. What belongs together and is none is one U+FFFD (a "maximal part").
size_t utf8_sequence(struct str s, bool *valid);
