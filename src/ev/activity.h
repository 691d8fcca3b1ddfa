// SPDX-License-Identifier: MIT
// Which callback a thread is in, for whoever watches it from another one: one plain store for each call.
#pragma once
#include <stdatomic.h>

typedef void activity_callback(void); // of any type: it is looked at, never called

struct activity {
    _Atomic(activity_callback *) in;
};

static inline void activity_set(struct activity *a, activity_callback *callback) {
    atomic_store_explicit(&a->in, callback, memory_order_relaxed);
}
static inline activity_callback *activity_of(const struct activity *a) {
    return atomic_load_explicit(&a->in, memory_order_relaxed);
}
