// SPDX-License-Identifier: MIT
// How numbers are written.
#pragma once
#include "base/out.h"

// "60 s", "0.25 s", "1.5 s": three figures or more, no zeros behind the point.
void put_seconds(struct out *o, double s);
// A number in three figures, as many as it has before the point: "0.0833", "1200".
void put_number(struct out *o, double n);
// As printf into room: for what is padded.
const char *seconds_text(char room[32], double s);
const char *number_text(char room[32], double n);
