// SPDX-License-Identifier: MIT
// How well service times that follow from a mechanism agree with one another, and with calls alone.
//
// A service time is lognormal about one median m, with one relative deviation s, both fitted (s is at least what a quiet
// machine shows). Robust: of a hundred, five may be further off (the machine was busy), one anything. Each trial may be
// a little faster or slower as a whole: by a factor of its own, drawn from a lognormal of deviation TRIAL_SPREAD, whose
// density is a price too; without it a hundred calls that are all 2 % late would be overwhelming evidence. A trial with
// the latency doubled has a factor of its own for free. Fitted by a few rounds of expectation and maximisation
// (Dempster, Laird, Rubin 1977).
#pragma once
#include "probe/mechanism.h"

struct fit {
    double median_log; // of milliseconds
    double spread;
    double *shift; // logarithm of each trial's factor
};

// Density of a service time, in 1/ms; *odd: how likely it is that it is none of this mechanism's.
double fit_density(const struct scene *s, const struct fit *f, unsigned trial, double service_ms, double *odd);
// f->shift has room for every span. about_ms: what the service takes, roughly.
void fit_start(const struct scene *s, double about_ms, struct fit *f);
void fit_service(const struct scene *s, const struct account *a, double about_ms, struct fit *f);
// What the trials' own factors cost, all together: 0 or less.
double fit_shift_price(const struct scene *s, const struct fit *f);
