// SPDX-License-Identifier: MIT
#include "mock/journal.h"

#include <assert.h>

#include "base/mem.h"
#include "base/nonce.h"

void journal_init(struct journal *j, size_t room, const struct capacity *capacity) {
    *j = (struct journal){.room = room, .first = 1, .capacity = capacity};
}

void journal_finish(struct journal *j) {
    free(j->ring);
    *j = (struct journal){0};
}

void journal_reset(struct journal *j) {
    struct journal fresh = {.ring = j->ring, .room = j->room, .capacity = j->capacity};
    fresh.last = j->last;
    fresh.first = j->last + 1;
    fresh.in_flight = fresh.at_most = j->in_flight;
    *j = fresh;
}

static struct journal_record *slot(const struct journal *j, uint64_t id) { return &j->ring[id % j->room]; }

static struct journal_record *record(const struct journal *j, uint64_t id) {
    return slot(j, id)->id == id ? slot(j, id) : NULL;
}

const struct journal_record *journal_find(const struct journal *j, uint64_t id) { return record(j, id); }

uint64_t journal_arrived(struct journal *j, const char *path, uint64_t now_ns) {
    if (!j->ring) {
        j->ring = xcalloc(j->room, sizeof *j->ring); // pages that are not used yet cost nothing
    }
    uint64_t id = ++j->last;
    j->calls++;
    *slot(j, id) = (struct journal_record){.id = id, .path = path, .arrival_ns = now_ns};
    j->in_flight++;
    j->at_most = MAX(j->at_most, j->in_flight);
    return id;
}

void journal_asked(struct journal *j, uint64_t id, struct str model, struct str session, bool stream) {
    struct journal_record *r = record(j, id);
    if (!r) {
        return;
    }
    size_t for_session = MIN(session.len, (size_t)JOURNAL_SESSION);
    model = str_first(model, JOURNAL_NAMES - for_session);
    session = str_first(session, JOURNAL_NAMES - model.len);
    r->stream = stream;
    r->model_len = (unsigned char)model.len;
    r->session_len = (unsigned char)session.len;
    if (model.len) {
        memcpy(r->names, model.ptr, model.len);
    }
    if (session.len) {
        memcpy(r->names + model.len, session.ptr, session.len);
    }
}

void journal_nonce(struct journal *j, uint64_t id, uint64_t nonce) {
    struct journal_record *r = record(j, id);
    if (r) {
        r->nonce = nonce;
    }
}

void journal_drawn(struct journal *j, uint64_t id, uint64_t latency_us, uint64_t work_us) {
    struct journal_record *r = record(j, id);
    if (r) {
        r->latency_us = latency_us;
        r->work_us = work_us;
    }
}

void journal_service(struct journal *j, uint64_t id, unsigned seat, uint64_t now_ns) {
    struct journal_record *r = record(j, id);
    if (r) {
        r->seat = seat;
        r->service_start_ns = now_ns;
    }
}

void journal_service_over(struct journal *j, uint64_t id, uint64_t now_ns) {
    struct journal_record *r = record(j, id);
    if (r) {
        r->service_end_ns = now_ns;
    }
}

void journal_first_byte(struct journal *j, uint64_t id, int status, uint64_t now_ns) {
    struct journal_record *r = record(j, id);
    assert(status > 0 && status < JOURNAL_STATUSES);
    j->by_status[status]++;
    if (r) {
        r->status = (short)status;
        r->first_byte_ns = now_ns;
    }
}

void journal_ended(struct journal *j, uint64_t id, enum journal_end end, unsigned tokens, uint64_t now_ns) {
    struct journal_record *r = record(j, id);
    assert(j->in_flight > 0 && end != END_NONE);
    j->in_flight--;
    j->ended[end]++;
    if (r) {
        r->end = (unsigned char)end;
        r->end_ns = now_ns;
        r->service_end_ns = r->service_start_ns && !r->service_end_ns ? now_ns : r->service_end_ns;
        r->tokens = tokens;
    }
}

uint64_t journal_from(const struct journal *j, uint64_t from) {
    uint64_t oldest = j->last > j->room ? j->last - j->room + 1 : 1;
    return MIN(MAX(MAX(from, oldest), j->first), j->last + 1);
}

// ---- as JSON

struct number {
    struct str name;
    uint64_t value;
};

static void put_numbers(struct out *o, const struct number *numbers, size_t n) {
    for (size_t i = 0; i < n; i++) {
        put(o, numbers[i].name);
        put_u64(o, numbers[i].value);
    }
}

static const char *const ends[] = {
    [END_NONE] = "running", [END_WHOLE] = "whole", [END_CUT] = "cut", [END_GONE] = "gone"};

void journal_put(const struct journal *j, uint64_t id, struct out *o) {
    const struct journal_record *r = slot(j, id);
    const struct number numbers[] = {
        {STR(",\"arrival_ns\":"), r->arrival_ns},
        {STR(",\"service_start_ns\":"), r->service_start_ns},
        {STR(",\"service_end_ns\":"), r->service_end_ns},
        {STR(",\"first_byte_ns\":"), r->first_byte_ns},
        {STR(",\"last_byte_ns\":"), r->end == END_WHOLE ? r->end_ns : 0},
        {STR(",\"client_gone_ns\":"), r->end == END_GONE ? r->end_ns : 0},
        {STR(",\"cut_ns\":"), r->end == END_CUT ? r->end_ns : 0},
        {STR(",\"latency_ns\":"), r->latency_us * 1000},
        {STR(",\"work_ns\":"), r->work_us * 1000},
        {STR(",\"tokens\":"), r->tokens},
        {STR(",\"seat\":"), r->seat},
        {STR(",\"status\":"), (uint64_t)r->status},
    };
    put_text(o, "{\"id\":");
    put_u64(o, r->id);
    put_text(o, ",\"path\":");
    put_json(o, str_c(r->path));
    put_text(o, ",\"model\":");
    put_json(o, journal_model(r));
    put_text(o, ",\"session\":");
    put_json(o, str_from(r->names + r->model_len, r->session_len));
    put(o, r->stream ? STR(",\"stream\":true") : STR(",\"stream\":false"));
    char nonce[NONCE_TEXT];
    put_numbers(o, numbers, ARRAY_LEN(numbers));
    put_text(o, ",\"end\":");
    put_json(o, str_c(ends[r->end]));
    if (r->nonce) {
        put_text(o, ",\"probe\":");
        put_json(o, nonce_format(r->nonce, nonce));
    }
    put_text(o, "}\n");
}

void journal_put_counts(const struct journal *j, struct out *o) {
    const struct capacity_counts *c = capacity_counts(j->capacity);
    const struct number numbers[] = {
        {STR("{\"in_flight\":"), j->in_flight},   {STR(",\"max_in_flight\":"), j->at_most},
        {STR(",\"in_service\":"), c->in_service}, {STR(",\"max_in_service\":"), c->in_service_most},
        {STR(",\"waiting\":"), c->waiting},       {STR(",\"max_waiting\":"), c->waiting_most},
        {STR(",\"calls\":"), j->calls},           {STR(",\"whole\":"), j->ended[END_WHOLE]},
        {STR(",\"cut\":"), j->ended[END_CUT]},    {STR(",\"gone\":"), j->ended[END_GONE]},
    };
    struct str before = STR(",\"by_status\":{\"");
    put_numbers(o, numbers, ARRAY_LEN(numbers));
    for (unsigned status = 0; status < JOURNAL_STATUSES; status++) {
        if (j->by_status[status]) {
            put(o, before);
            put_u64(o, status);
            put_text(o, "\":");
            put_u64(o, j->by_status[status]);
            before = STR(",\"");
        }
    }
    put(o, before.len == 2 ? STR("}}\n") : STR(",\"by_status\":{}}\n"));
}
