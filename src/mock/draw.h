// SPDX-License-Identifier: MIT
// Chance that can be had again: a draw is a function of a key and of what it is drawn for, not of what was drawn
// before. So two runs with one seed agree whatever the order in which their calls arrive.
//
// A call's key is made of the seed, of what tells the call apart (its X-Mock-Nonce, else its body), and of how many
// with the same came before it. Calls that are the same get the same set of draws in every run; which of them gets
// which is up to their order, and that is all that is.
#pragma once
#include <stdbool.h>

#include "base/str.h"

// 64 well mixed bits for the n-th draw of a key (the finaliser of splitmix64; Steele, Lea, Flood 2014).
uint64_t draw_bits(uint64_t key, uint64_t n);
// As a number between 0 and 1, neither of which it is.
double draw_unit(uint64_t key, uint64_t n);
// A key from bytes, the same on every machine.
uint64_t draw_key(uint64_t seed, struct str bytes);

// How often each key was seen.
struct draw_counts {
    struct draw_count *slots; // a power of two of them, open addressing; NULL until the first
    size_t room;
    size_t used;
};
void draw_counts_finish(struct draw_counts *counts); // as zeroed
// How often this key was counted before. Past a million different keys (16 MB and more), and without memory, those that
// are new are not counted: they are always the first.
uint64_t draw_count(struct draw_counts *counts, uint64_t key);
