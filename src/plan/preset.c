// SPDX-License-Identifier: MIT
#include "plan/preset.h"

// 3.5 to 3.7 had five threads a CPU; 3.13 counts the CPUs the process may use instead of the machine's, which is the
// caller's business (preset_facts.cpus).
static unsigned asyncio_threads(const struct preset_facts *f, char *number, size_t size) {
    if (f->python_major == 3 && f->python_minor < 8) {
        snprintf(number, size, "5 * %u", f->cpus);
        return 5 * f->cpus;
    }
    snprintf(number, size, "min(32, %u + 4)", f->cpus);
    return MIN(32, f->cpus + 4);
}

#define PRESET(...) {__VA_ARGS__},
static const struct preset presets[] = {
#include "plan/presets.def"
};
#undef PRESET

const struct preset *preset_at(size_t i) { return i < ARRAY_LEN(presets) ? &presets[i] : NULL; }

const struct preset *preset_find(enum preset_group group, struct str name) {
    for (size_t i = 0; i < ARRAY_LEN(presets); i++) {
        if (presets[i].group == group && str_eq(name, str_c(presets[i].name))) {
            return &presets[i];
        }
    }
    return NULL;
}

const char *preset_nearest(enum preset_group group, struct str wrong) {
    const char *names[ARRAY_LEN(presets)];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(presets); i++) {
        if (presets[i].group == group) {
            names[n++] = presets[i].name;
        }
    }
    return str_nearest(wrong, names, n);
}

bool preset_add(const struct preset *p, const struct preset_facts *facts, struct chain *chain) {
    struct link link = {.kind = p->kind, .unit = p->unit, .scope = p->scope, .seats = p->seats, .preset = p};
    bool fine = true;
    snprintf(link.name, sizeof link.name, "%s", p->title);
    snprintf(link.number, sizeof link.number, "%s", p->number);
    if (p->seats_of) {
        link.seats = p->seats_of(facts, link.number, sizeof link.number);
    }
    for (size_t i = 0; i < PRESET_LIMITS && p->limits[i].name; i++) {
        fine = chain_add_limit(chain, &p->limits[i]) && fine;
    }
    return chain_add(chain, &link) && fine;
}
