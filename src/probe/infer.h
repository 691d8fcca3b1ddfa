// SPDX-License-Identifier: MIT
// Everything that is known -> what it says. Pure: no clock, no I/O; the same evidence and seed give the same verdict.
//
// Every mechanism that might be (a model with its numbers) is turned round (mechanism.h), its service times are weighed
// (fit.h), and what is left is compared by BIC: the model's own number, tuned to the data, has a price. A verdict is
// bare when the next best explanation is behind by BIC_BARE and CONFIDENCE_BARE of the resamples agree; else it is
// PROBE_INCONCLUSIVE, with `likely`, `runner_up` and a `doubt`. See docs/internals/probe.md.
#pragma once
#include "probe/evidence.h"
#include "probe/verdict.h"

void infer(const struct evidence *e, uint64_t seed, struct verdict *v);
// The same statement, but for what goes with it (shares, periods, rates, how the seats are divided).
bool hypothesis_same(const struct hypothesis *a, const struct hypothesis *b);
