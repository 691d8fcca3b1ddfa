// SPDX-License-Identifier: MIT
// A verdict in plain words. The rules (facts/probe-method.md 1.3): no jargon, seconds, "people at once"; only what the
// evidence carries; where two explanations fit, both; the app is not blamed for what was the prober's or the network's;
// who cannot decide says what would.
#pragma once
#include "base/out.h"
#include "probe/report.h"

// One sentence or two, no line feed: "6 at once, then a queue. It fits asyncio.to_thread: 6 = min(32, 2 + 4)."
MUSTCHECK enum err say_headline(const struct probe_report *r, struct buf *out);

// What is said below the picture, in order. Each writes nothing, or paragraphs that end in a line feed. Text of ours
// and of the table of traps, except SAY_AGAIN, which is the command as it was told.
enum say {
    SAY_VERDICT,
    SAY_WHY,
    SAY_CONFIRM,
    SAY_FIX,
    SAY_EXPECTED,
    SAY_NUMBERS,
    SAY_CAVEATS,
    SAY_PROBER,
    SAY_AGAIN,
    SAY_COUNT
};
const char *say_title(enum say what); // "Verdict"
void say(struct out *o, enum say what, const struct probe_report *r);

// A mechanism in a few words, without a full stop: "6 at once, then a queue".
void say_model(struct out *o, const struct hypothesis *h, unsigned tried_up_to);
// Of an inconclusive verdict: what it looks like (`likely`) is worth telling.
bool say_looks_like(const struct verdict *v);
// The verdict is too little by itself to settle it: 1 in 150 is a difference of 10 in the BIC, "very strong" (Kass and
// Raftery 1995).
enum { SAY_ODDS_ENOUGH = 150 };
