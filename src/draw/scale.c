// SPDX-License-Identifier: MIT
#include "draw/scale.h"

#include <math.h>

double axis_step(double length, unsigned marks) {
    static const double digits[] = {1, 2, 5};
    double power = pow(10, floor(log10(length / marks)));
    for (size_t i = 0; i < ARRAY_LEN(digits); i++) {
        if (length / (digits[i] * power) <= marks) {
            return digits[i] * power;
        }
    }
    return 10 * power;
}

void put_time(struct out *o, uint64_t ns) {
    // From so many seconds on: digits behind the point. The limits are where rounding would add a digit.
    static const struct {
        double from;
        int digits;
    } rows[] = {{99.95, 0}, {0.995, 1}, {0.0995, 2}, {0.00995, 3}};
    double s = (double)ns / 1e9;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (s >= rows[i].from) {
            put_format(o, "%.*f s", rows[i].digits, s);
            return;
        }
    }
    put_format(o, ns ? "%.2g ms" : "0 s", s * 1e3);
}

void put_count(struct out *o, uint64_t n) {
    if (n >= 1000) {
        put_count(o, n / 1000);
        put_format(o, ",%03u", (unsigned)(n % 1000));
    } else {
        put_u64(o, n);
    }
}
