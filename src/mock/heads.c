// SPDX-License-Identifier: MIT
#include "mock/heads.h"

#include <assert.h>
#include <time.h>

// Whom a field is for.
enum audience { ALL, OPENAI, ANTHROPIC };

struct row {
    bool wanted;
    enum audience audience;
    const char *name, *value;
};

static void add(struct fields *f, const struct row *rows, size_t n, bool anthropic) {
    for (size_t i = 0; i < n; i++) {
        const struct row *row = &rows[i];
        if (row->wanted && row->audience != (anthropic ? OPENAI : ANTHROPIC)) {
            enum err e = fields_add(f, str_c(row->name), str_c(row->value));
            assert(e == OK); // there is room for every row
            (void)e;
        }
    }
}

// What is left of the limits. The reset of a window is a duration in OpenAI's, a moment in Anthropic's.
static void add_limits(struct fields *f, struct head_texts *texts, const struct answer *a) {
    const char *left = a->status == 429 ? "0" : "59";
    time_t at = (time_t)a->created + 1;
    struct tm tm;
    if (!gmtime_r(&at, &tm) || !strftime(texts->reset, sizeof texts->reset, "%Y-%m-%dT%H:%M:%SZ", &tm)) {
        texts->reset[0] = '\0';
    }
    const struct row rows[] = {
        {true, OPENAI, "x-ratelimit-limit-requests", "60"},
        {true, OPENAI, "x-ratelimit-limit-tokens", "150000"},
        {true, OPENAI, "x-ratelimit-remaining-requests", left},
        {true, OPENAI, "x-ratelimit-remaining-tokens", "149984"},
        {true, OPENAI, "x-ratelimit-reset-requests", "1s"},
        {true, OPENAI, "x-ratelimit-reset-tokens", "6ms"},
        {true, ANTHROPIC, "anthropic-ratelimit-requests-limit", "60"},
        {true, ANTHROPIC, "anthropic-ratelimit-requests-remaining", left},
        {true, ANTHROPIC, "anthropic-ratelimit-requests-reset", texts->reset},
        {true, ANTHROPIC, "anthropic-ratelimit-tokens-limit", "150000"},
        {true, ANTHROPIC, "anthropic-ratelimit-tokens-remaining", "149984"},
        {true, ANTHROPIC, "anthropic-ratelimit-tokens-reset", texts->reset},
    };
    add(f, rows, ARRAY_LEN(rows), a->anthropic);
}

void head_fields(struct fields *f, struct head_texts *texts, const struct script *script, const struct answer *a,
                 uint64_t id, const char *allow) {
    bool again = a->status == 429 || a->status == 503 || a->status == 529;
    snprintf(texts->id, sizeof texts->id, a->anthropic ? "req_mock_%llu" : "mock-%llu", (unsigned long long)id);
    const struct row rows[] = {
        {true, ALL, "Content-Type", script->content_type},
        {!script->measured, ALL, "Cache-Control", "no-cache"},
        {again, ALL, "Retry-After", "1"},
        {again, ALL, "retry-after-ms", "1000"},
        {a->status == 405, ALL, "Allow", allow},
        {id != 0, OPENAI, "x-request-id", texts->id},
        {id != 0, ANTHROPIC, "request-id", texts->id},
    };
    add(f, rows, ARRAY_LEN(rows), a->anthropic);
    if (a->limits) {
        add_limits(f, texts, a);
    }
}
