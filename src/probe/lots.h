// SPDX-License-Identifier: MIT
// Workers with seats of their own, and calls bound to one of them by lot: which one is not seen, so the chance of what
// was seen is a sum over all lots. It is estimated by a particle filter: each particle is a guess at who went where; a
// call goes, in every particle, to a worker in proportion to how well its time fits there, the sum of which is the
// particle's weight (Liu, Chen 1998: sequential imputation with the optimal proposal).
#pragma once
#include "probe/fit.h"

enum { LOTS_GUESSES_MOST = 512 };

struct lots {
    unsigned workers, each;
    unsigned guesses; // particles, up to LOTS_GUESSES_MOST
    uint64_t *random; // the state of a generator
};

// Fills in the logarithm of the density of each call of a trial, given those before, and what service times came out of
// one guess at who went where. Returns the sum of the logarithms.
double lots_density(const struct lots *l, const struct scene *s, const struct fit *f, unsigned trial, enum order order,
                    double *density, double *service);
// A number from 0 to 1.
double lots_draw(uint64_t *random);
