// SPDX-License-Identifier: MIT
#include "plan/words.h"

#include <math.h>

const char *number_text(char room[32], double n) {
    double size = fabs(n);
    int decimals = size >= 100 || size < 1e-6 ? 0 : 2 - (int)floor(log10(size));
    int len = snprintf(room, 32, "%.*f", MIN(decimals, 9), n);
    while (decimals > 0 && len > 1 && room[len - 1] == '0') {
        room[--len] = '\0';
    }
    if (decimals > 0 && room[len - 1] == '.') {
        room[--len] = '\0';
    }
    return room;
}

const char *seconds_text(char room[32], double s) {
    number_text(room, s);
    size_t len = strlen(room);
    snprintf(room + len, 32 - len, " s");
    return room;
}

void put_number(struct out *o, double n) {
    char room[32];
    put_format(o, "%s", number_text(room, n));
}

void put_seconds(struct out *o, double s) {
    char room[32];
    put_format(o, "%s", seconds_text(room, s));
}
