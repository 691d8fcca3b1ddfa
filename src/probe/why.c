// SPDX-License-Identifier: MIT
#include "probe/why.h"

#include "base/str.h"

// ---- how numbers follow from CPUs

#define FIXED(n)                                                                                                       \
    static unsigned fixed_##n(unsigned cpus UNUSED) { return n; }
FIXED(1)
FIXED(2)
FIXED(4)
FIXED(5)
FIXED(6)
FIXED(10)
FIXED(15)
FIXED(16)
FIXED(20)
FIXED(40)
FIXED(80)
FIXED(100)
FIXED(200)
FIXED(256)
FIXED(1000)
#undef FIXED

static unsigned asyncio_pool(unsigned cpus) { return MIN(32u, cpus + 4); }
static unsigned five_per_cpu(unsigned cpus) { return cpus * 5; }
static unsigned two_per_cpu_and_one(unsigned cpus) { return cpus * 2 + 1; }

#define M(model) (1u << PROBE_##model)
#define TRAP(...) ROW(false, __VA_ARGS__)
#define CLIENT(...) ROW(true, __VA_ARGS__)
#define ROW(is_client, who, n, from_cpus, looks_like, with, why, how, what, where)                                     \
    {.runtime = who,                                                                                                   \
     .number = n,                                                                                                      \
     .cause = why,                                                                                                     \
     .confirm = how,                                                                                                   \
     .fix = what,                                                                                                      \
     .source = where,                                                                                                  \
     .at_once = from_cpus,                                                                                             \
     .models = looks_like,                                                                                             \
     .canary = CANARY_##with,                                                                                          \
     .client = is_client},
static const struct trap traps[] = {
#include "probe/traps.def"
};
#undef ROW
#undef CLIENT
#undef TRAP
#undef M

// ---- which of them

enum { CPUS_MOST = 256 };

// Better ones first; traps of one rank in the order of the table.
enum rank {
    RANK_NONE,
    RANK_ELSEWHERE, // the number comes out for a count of CPUs that this machine does not have
    RANK_ANY,       // its number is whatever it was set to
    RANK_EXCLUDED,  // a client's limit
    RANK_RARE,      // the number comes out for a count of CPUs that few machines have
    RANK_SEEN,      // any number, but it would freeze the canary, and that froze
    RANK_NUMBER, // it has this number: everywhere, or with the CPUs that this machine has, or that machines often have
};

static bool often(unsigned cpus) { return cpus == 1 || cpus == 2 || cpus == 4 || cpus == 8 || cpus == 16; }

// On so many CPUs the trap has this number; 0: on none.
static unsigned solve(const struct trap *t, unsigned n) {
    for (unsigned cpus = 1; cpus <= CPUS_MOST; cpus++) {
        if (t->at_once(cpus) == n) {
            return cpus;
        }
    }
    return 0;
}

static bool depends_on_cpus(const struct trap *t) { return t->at_once(1) != t->at_once(2); }

static enum rank rank_of(const struct trap *t, unsigned n, const struct evidence *e, enum canary_verdict seen,
                         unsigned *cpus) {
    *cpus = 0;
    if (!t->at_once) {
        return t->canary == CANARY_FROZEN && seen == CANARY_FROZEN ? RANK_SEEN : RANK_ANY;
    }
    if (!depends_on_cpus(t)) {
        return t->at_once(1) != n ? RANK_NONE : t->client ? RANK_EXCLUDED : RANK_NUMBER;
    }
    if (e->local && t->at_once(e->cpus) == n) {
        *cpus = e->cpus;
        return RANK_NUMBER;
    }
    *cpus = solve(t, n);
    if (!*cpus) {
        return RANK_NONE;
    }
    return e->local ? RANK_ELSEWHERE : often(*cpus) ? RANK_NUMBER : RANK_RARE;
}

// Worth a place in the headline: what a pool may be set to is any number.
static bool is_likely(enum rank rank, enum probe_model model) {
    return rank >= RANK_RARE || (rank == RANK_ANY && model != PROBE_POOL);
}

// A look at another path while calls ran rules some out: whatever holds the loop would have held that, too.
static bool canary_allows(const struct trap *t, enum canary_verdict seen) {
    return t->canary == CANARY_NONE || seen == CANARY_NONE || seen == CANARY_SLOW || t->canary == seen;
}

// "min(32, cpus + 4)" on 2 CPUs: "6 = min(32, 2 + 4)"; "40": "40".
static void write_number(char *out, size_t size, const struct trap *t, unsigned n, unsigned cpus) {
    struct str text = str_c(t->number);
    struct str name = STR("cpus");
    size_t at = 0;
    while (cpus && at + name.len < text.len && !str_eq(str_first(str_skip(text, at), name.len), name)) {
        at++;
    }
    if (cpus) {
        struct str rest = str_skip(text, MIN(at + name.len, text.len));
        snprintf(out, size, "%u = %.*s%u%.*s", n, (int)at, text.ptr, cpus, STR_ARG(rest));
        return;
    }
    bool sum = t->at_once && (str_find(text, '+') < text.len || str_find(text, '/') < text.len);
    if (sum) {
        snprintf(out, size, "%u = %s", n, t->number);
    } else {
        snprintf(out, size, "%u", n);
    }
}

// The number that would be configured.
static unsigned number_of(const struct hypothesis *h) { return h->takes ? h->places : h->at_once; }

static void add(struct why *why, enum rank *ranks, enum rank rank, const struct trap *t, const struct hypothesis *h,
                unsigned cpus) {
    unsigned n = number_of(h);
    unsigned at = why->count;
    while (at > 0 && ranks[at - 1] < rank) {
        at--;
    }
    if (at == WHY_MOST) {
        return;
    }
    unsigned last = MIN(why->count, (unsigned)WHY_MOST - 1);
    for (unsigned i = last; i > at; i--) {
        why->reasons[i] = why->reasons[i - 1];
        ranks[i] = ranks[i - 1];
    }
    why->count = last + 1;
    ranks[at] = rank;
    why->reasons[at] =
        (struct reason){.trap = t, .cpus = cpus, .excluded = t->client, .likely = is_likely(rank, h->model)};
    write_number(why->reasons[at].number, sizeof why->reasons[at].number, t, n, cpus);
}

// Beside a likely one, what is merely possible only takes the eye off it.
static void drop_unlikely(struct why *why) {
    unsigned kept = 0;
    for (unsigned i = 0; i < why->count && why->reasons[0].likely; i++) {
        if (why->reasons[i].likely || why->reasons[i].excluded) {
            why->reasons[kept++] = why->reasons[i];
        }
    }
    why->count = kept ? kept : why->count;
}

void why_find(const struct verdict *v, const struct evidence *e, struct why *why) {
    const struct hypothesis *h = v->best.model == PROBE_INCONCLUSIVE ? &v->likely : &v->best;
    enum rank ranks[WHY_MOST];
    *why = (struct why){0};
    for (size_t i = 0; i < ARRAY_LEN(traps) && h->at_once; i++) {
        const struct trap *t = &traps[i];
        unsigned cpus = 0;
        enum rank rank = rank_of(t, number_of(h), e, v->canary, &cpus);
        if (rank != RANK_NONE && (t->models & 1u << h->model) && canary_allows(t, v->canary)) {
            add(why, ranks, rank, t, h, cpus);
        }
    }
    drop_unlikely(why);
}
