// SPDX-License-Identifier: MIT
#include "probe/fit.h"

#include <math.h>

static const double TRIAL_SPREAD = 0.03;
static const double TRIAL_MS = 4; // or this, of short services
static const double USUAL = 0.94;
static const double LATE = 0.05;
static const double ANYTHING = 0.01;
static const double ANYTHING_WIDE = 30; // evenly over so many times T
enum { ROUNDS = 6 };

static double normal(double x, double deviation) {
    double z = x / deviation;
    return z * z > 400 ? 0 : exp(-z * z / 2) / (deviation * 2.5066282746310002);
}

static double wider(double spread) { return MAX(3 * spread, 0.08); }

// The three parts of the density, of the logarithm's distance from the median. A trial that is faster as a whole is no
// narrower for it, or whoever bends it so would be rewarded for each call: so the service without the trial's factor.
static double usual(const struct fit *f, double off, double service) {
    return USUAL * normal(off, f->spread) / service;
}

static double late(const struct fit *f, double off, double service) {
    return LATE * normal(off, wider(f->spread)) / service;
}

static double anything(const struct scene *s) { return ANYTHING / (ANYTHING_WIDE * s->alone_ms); }

static bool tiny(const struct scene *s, double service) { return service < s->alone_ms / 50; }

double fit_density(const struct scene *s, const struct fit *f, unsigned trial, double service_ms, double *odd) {
    double rest = anything(s);
    if (tiny(s, service_ms)) {
        *odd = 1;
        return rest;
    }
    double off = log(service_ms) - f->median_log - f->shift[trial];
    double plain = service_ms * exp(-f->shift[trial]);
    double all = usual(f, off, plain) + late(f, off, plain) + rest;
    *odd = rest / all;
    return all;
}

void fit_start(const struct scene *s, double about_ms, struct fit *f) {
    f->median_log = log(about_ms);
    f->spread = s->spread;
    for (unsigned t = 0; t < s->span_count; t++) {
        f->shift[t] = s->spans[t].kind == TRIAL_SLOWER ? log(2) : 0;
    }
}

static double shift_deviation(const struct scene *s, const struct span *p) {
    return p->kind == TRIAL_SLOWER ? 10 : MAX(TRIAL_SPREAD, TRIAL_MS / s->alone_ms);
}

static bool is_some_burst(const struct span *p) {
    return p->kind != TRIAL_SOLO && p->kind != TRIAL_SLOWER && span_len(p) >= 4;
}

// How sure it is that a call is one of the usual, or of those late by some (they count for little).
static double weight(const struct scene *s, const struct fit *f, size_t i, double service, double *off) {
    if (!s->v[i].counts || tiny(s, service)) {
        return 0;
    }
    *off = log(service) - f->median_log - f->shift[s->v[i].trial];
    double a = usual(f, *off, service);
    double b = late(f, *off, service);
    double ratio = f->spread / wider(f->spread);
    return (a + b * ratio * ratio) / (a + b + anything(s));
}

static void fit_shifts(const struct scene *s, const struct account *a, struct fit *f) {
    for (unsigned t = 0; t < s->span_count; t++) {
        const struct span *p = &s->spans[t];
        double sum = 0;
        double weights = 0;
        double off = 0;
        for (size_t i = p->from; i < p->to; i++) {
            double w = weight(s, f, i, a->service[i], &off);
            sum += w > 0 ? w * (off + f->shift[t]) : 0;
            weights += w;
        }
        double deviation = shift_deviation(s, p);
        f->shift[t] = sum / (weights + f->spread * f->spread / (deviation * deviation));
    }
}

static void fit_common(const struct scene *s, const struct account *a, struct fit *f) {
    double sum = 0;
    double weights = 0;
    double squares = 0;
    double off = 0;
    for (size_t i = 0; i < s->n; i++) {
        double w = weight(s, f, i, a->service[i], &off);
        sum += w > 0 ? w * off : 0;
        squares += w > 0 ? w * off * off : 0;
        weights += w;
    }
    if (weights > 2) {
        double mean = sum / weights;
        double floor = MAX(1.5 / s->alone_ms, 0.01);
        f->median_log += mean;
        f->spread = MAX(sqrt(MAX(squares / weights - mean * mean, 0)), MIN(floor, 1.0));
    }
}

void fit_service(const struct scene *s, const struct account *a, double about_ms, struct fit *f) {
    fit_start(s, about_ms, f);
    for (int round = 0; round < ROUNDS; round++) {
        fit_shifts(s, a, f);
        fit_common(s, a, f);
    }
}

// Bursts of some size have a common deviation of their own factors, unknown: a mean over what it may be. Where one
// mechanism needs none of it and the other has to bend every burst the same way, that tells.
static double price_of_bursts(const struct scene *s, const struct fit *f) {
    static const double deviations[] = {0.0025, 0.005, 0.01, 0.02, 0.03};
    double sum = 0;
    for (size_t d = 0; d < ARRAY_LEN(deviations); d++) {
        double deviation = MAX(deviations[d], 0.4 / s->alone_ms);
        double price = 0;
        for (unsigned t = 0; t < s->span_count; t++) {
            double z = f->shift[t] / deviation;
            price += is_some_burst(&s->spans[t]) ? log(TRIAL_SPREAD / deviation) - z * z / 2 : 0;
        }
        sum += exp(MAX(price, -600)) / ARRAY_LEN(deviations);
    }
    return log(sum);
}

double fit_shift_price(const struct scene *s, const struct fit *f) {
    double price = price_of_bursts(s, f);
    for (unsigned t = 0; t < s->span_count; t++) {
        double z = f->shift[t] / shift_deviation(s, &s->spans[t]);
        bool counted = s->spans[t].kind == TRIAL_SLOWER || is_some_burst(&s->spans[t]);
        price -= counted ? 0 : z * z / 2;
    }
    return price;
}
