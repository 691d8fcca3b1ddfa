// SPDX-License-Identifier: MIT
#pragma once
#include "cmd/args.h"

extern const struct verb verb_serve;
extern const struct verb verb_mock;
extern const struct verb verb_lab;
extern const struct verb verb_plan;
extern const struct verb verb_probe;
