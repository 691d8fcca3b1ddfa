// SPDX-License-Identifier: MIT
// What the mock counts as tokens: words. A prompt is only counted. What is echoed is cut, so that its tokens, put
// together, are the text byte for byte: each is a word with the blanks in front of it, the last one has those at the
// end too. Longer ones are cut (never inside a character), so that no event grows with what was asked.
#pragma once
#include "base/str.h"

enum { WORD_MAX = 1024 }; // bytes of a word, and of the blanks in front of it

// How many runs of bytes between blanks there are.
uint64_t words_count(struct str text);
// The length of the text's first token; 0 only for an empty text.
size_t word_len(struct str text);
// How many tokens it is cut into.
uint64_t words_cut(struct str text);
// The length of the text's first tokens: at most `most` of them, and none behind `enough` bytes. *tokens is how many.
size_t words_take(struct str text, size_t enough, unsigned most, unsigned *tokens);
