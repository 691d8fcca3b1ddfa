// SPDX-License-Identifier: MIT
#include "mock/heads.h"

#include <assert.h>
#include <time.h>

// Whom a field is for.
enum audience { ALL, OPENAI, ANTHROPIC };

struct row {
    bool wanted;
    enum audience audience;
    struct str name, value;
};

static void add(struct fields *f, const struct row *rows, size_t n, bool anthropic) {
    for (size_t i = 0; i < n; i++) {
        const struct row *row = &rows[i];
        if (row->wanted && row->audience != (anthropic ? OPENAI : ANTHROPIC)) {
            assert(f->n < f->cap);                                             // there is room for every row
            f->v[f->n++] = (struct field){row->name, row->value, FIELD_OTHER}; // nobody looks for one of ours
        }
    }
}

// What is left of the limits. The reset of a window is a duration in OpenAI's, a moment in Anthropic's.
static void add_limits(struct fields *f, struct head_texts *texts, const struct answer *a) {
    struct str left = a->status == 429 ? STR("0") : STR("59");
    time_t at = (time_t)a->created + 1;
    struct tm tm;
    if (!gmtime_r(&at, &tm) || !strftime(texts->reset, sizeof texts->reset, "%Y-%m-%dT%H:%M:%SZ", &tm)) {
        texts->reset[0] = '\0';
    }
    const struct row rows[] = {
        {true, OPENAI, STR("x-ratelimit-limit-requests"), STR("60")},
        {true, OPENAI, STR("x-ratelimit-limit-tokens"), STR("150000")},
        {true, OPENAI, STR("x-ratelimit-remaining-requests"), left},
        {true, OPENAI, STR("x-ratelimit-remaining-tokens"), STR("149984")},
        {true, OPENAI, STR("x-ratelimit-reset-requests"), STR("1s")},
        {true, OPENAI, STR("x-ratelimit-reset-tokens"), STR("6ms")},
        {true, ANTHROPIC, STR("anthropic-ratelimit-requests-limit"), STR("60")},
        {true, ANTHROPIC, STR("anthropic-ratelimit-requests-remaining"), left},
        {true, ANTHROPIC, STR("anthropic-ratelimit-requests-reset"), str_c(texts->reset)},
        {true, ANTHROPIC, STR("anthropic-ratelimit-tokens-limit"), STR("150000")},
        {true, ANTHROPIC, STR("anthropic-ratelimit-tokens-remaining"), STR("149984")},
        {true, ANTHROPIC, STR("anthropic-ratelimit-tokens-reset"), str_c(texts->reset)},
    };
    add(f, rows, ARRAY_LEN(rows), a->anthropic);
}

void head_fields(struct fields *f, struct head_texts *texts, const struct script *script, const struct answer *a,
                 uint64_t id, const char *allow) {
    bool again = a->status == 429 || a->status == 503 || a->status == 529;
    struct str kind = a->anthropic ? STR("req_mock_") : STR("mock-");
    char *end = format_u64(mempcpy(texts->id, kind.ptr, kind.len), id);
    struct str request = str_from(texts->id, (size_t)(end - texts->id));
    const struct row rows[] = {
        {true, ALL, STR("Content-Type"), script->content_type},
        {!script->measured, ALL, STR("Cache-Control"), STR("no-cache")},
        {again, ALL, STR("Retry-After"), STR("1")},
        {again, ALL, STR("retry-after-ms"), STR("1000")},
        {a->status == 405, ALL, STR("Allow"), str_c(allow)},
        {id != 0, OPENAI, STR("x-request-id"), request},
        {id != 0, ANTHROPIC, STR("request-id"), request},
    };
    add(f, rows, ARRAY_LEN(rows), a->anthropic);
    if (a->limits) {
        add_limits(f, texts, a);
    }
}
