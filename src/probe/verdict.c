// SPDX-License-Identifier: MIT
#include "probe/verdict.h"

const char *probe_model_name(enum probe_model m) {
    static const char *const names[] = {
#define MODEL(name, text) text,
        PROBE_MODELS(MODEL)
#undef MODEL
    };
    return names[m];
}
