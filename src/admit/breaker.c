// SPDX-License-Identifier: MIT
#include "admit/breaker.h"

// open_until_ms is what decides: a state is read off it and the clock. Relaxed where a report may come a moment late.

static uint64_t open_until(const struct breaker *b) {
    return atomic_load_explicit(&b->open_until_ms, memory_order_acquire);
}

static void rest(struct breaker *b, uint64_t rest_ms, uint64_t now_ms) {
    atomic_store_explicit(&b->open_until_ms, MAX(now_ms + rest_ms, 1), memory_order_release);
    atomic_store_explicit(&b->trial, false, memory_order_release);
}

enum breaker_state breaker_state(const struct breaker *b, uint64_t now_ms) {
    uint64_t until = open_until(b);
    return !until ? BREAKER_CLOSED : now_ms < until ? BREAKER_OPEN : BREAKER_HALF_OPEN;
}

bool breaker_admits(struct breaker *b, unsigned failures_max, uint64_t now_ms, bool *trial) {
    *trial = false;
    if (LIKELY(!open_until(b)) || !failures_max) {
        return true;
    }
    if (breaker_state(b, now_ms) == BREAKER_HALF_OPEN) {
        *trial = !atomic_exchange_explicit(&b->trial, true, memory_order_acq_rel);
    }
    return *trial;
}

void breaker_failed(struct breaker *b, unsigned failures_max, uint64_t rest_ms, uint64_t now_ms) {
    unsigned failures = atomic_fetch_add_explicit(&b->failures, 1, memory_order_relaxed) + 1;
    if (!failures_max) {
        return;
    }
    switch (breaker_state(b, now_ms)) {
    case BREAKER_CLOSED:
        if (failures >= failures_max) {
            rest(b, rest_ms, now_ms);
        }
        break;
    case BREAKER_OPEN: break; // sent before it opened
    case BREAKER_HALF_OPEN:
        if (atomic_load_explicit(&b->trial, memory_order_acquire)) {
            rest(b, rest_ms, now_ms);
        }
        break;
    }
}

void breaker_worked(struct breaker *b) {
    if (LIKELY(!atomic_load_explicit(&b->failures, memory_order_relaxed))) {
        return;
    }
    if (open_until(b) && !atomic_load_explicit(&b->trial, memory_order_acquire)) {
        return; // sent before it opened
    }
    atomic_store_explicit(&b->failures, 0, memory_order_relaxed);
    atomic_store_explicit(&b->open_until_ms, 0, memory_order_release);
    atomic_store_explicit(&b->trial, false, memory_order_release);
}

void breaker_forget(struct breaker *b) { atomic_store_explicit(&b->trial, false, memory_order_release); }

uint64_t breaker_rests_ms(const struct breaker *b, uint64_t now_ms) {
    uint64_t until = open_until(b);
    return until > now_ms ? until - now_ms : 0;
}
