// SPDX-License-Identifier: MIT
// The GNU attributes thaw uses, under names that say what they are for, and the functions nobody may call.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUSTCHECK __attribute__((warn_unused_result))
#define PRINTF(format_at, first_at) __attribute__((format(printf, format_at, first_at)))
#define NORETURN __attribute__((noreturn))
#define UNUSED __attribute__((unused))
#define COLD __attribute__((cold, noinline)) // out of the way of what is hot
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

// The struct of type T whose member M is at P.
#define container_of(p, T, m) ((T *)(void *)((char *)(p)-offsetof(T, m)))

// Each has a safer sibling here: str_*, buf_*, parse_* (base/str.h, base/buf.h).
#pragma GCC poison strcpy strcat sprintf vsprintf strtok atoi atol atoll gets
