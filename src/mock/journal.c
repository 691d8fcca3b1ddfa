// SPDX-License-Identifier: MIT
#include "mock/journal.h"

#include <assert.h>

#include "base/mem.h"

void journal_init(struct journal *j, size_t room) { *j = (struct journal){.room = room}; }

void journal_finish(struct journal *j) {
    free(j->ring);
    *j = (struct journal){0};
}

static struct journal_record *slot(const struct journal *j, uint64_t id) { return &j->ring[id % j->room]; }

// The call's record, NULL if it was overwritten.
static struct journal_record *record(const struct journal *j, uint64_t id) {
    return slot(j, id)->id == id ? slot(j, id) : NULL;
}

uint64_t journal_arrived(struct journal *j, const char *path, uint64_t now_ns) {
    if (!j->ring) {
        j->ring = xcalloc(j->room, sizeof *j->ring); // pages that are not used yet cost nothing
    }
    uint64_t id = ++j->calls;
    *slot(j, id) = (struct journal_record){.id = id, .path = path, .arrival_ns = now_ns};
    j->in_flight++;
    j->at_most = MAX(j->at_most, j->in_flight);
    return id;
}

void journal_asked(struct journal *j, uint64_t id, struct str model, bool stream) {
    struct journal_record *r = record(j, id);
    if (r) {
        r->stream = stream;
        r->model_len = (unsigned char)MIN(model.len, sizeof r->model);
        if (r->model_len) {
            memcpy(r->model, model.ptr, r->model_len);
        }
    }
}

void journal_first_byte(struct journal *j, uint64_t id, int status, uint64_t now_ns) {
    struct journal_record *r = record(j, id);
    if (r) {
        r->status = (short)status;
        r->first_byte_ns = now_ns;
    }
}

void journal_ended(struct journal *j, uint64_t id, bool gone, uint64_t now_ns) {
    struct journal_record *r = record(j, id);
    assert(j->in_flight > 0);
    j->in_flight--;
    if (r) {
        *(gone ? &r->client_gone_ns : &r->last_byte_ns) = now_ns;
    }
}

uint64_t journal_from(const struct journal *j, uint64_t from) {
    uint64_t oldest = j->calls > j->room ? j->calls - j->room + 1 : 1;
    return MIN(MAX(from, oldest), j->calls + 1);
}

void journal_put(const struct journal *j, uint64_t id, struct out *o) {
    const struct journal_record *r = slot(j, id);
    const struct {
        struct str name;
        uint64_t ns;
    } times[] = {
        {STR(",\"arrival_ns\":"), r->arrival_ns},
        {STR(",\"first_byte_ns\":"), r->first_byte_ns},
        {STR(",\"last_byte_ns\":"), r->last_byte_ns},
        {STR(",\"client_gone_ns\":"), r->client_gone_ns},
    };
    put_text(o, "{\"id\":");
    put_u64(o, r->id);
    put_text(o, ",\"path\":");
    put_json(o, str_c(r->path));
    put_text(o, ",\"model\":");
    put_json(o, str_from(r->model, r->model_len));
    put(o, r->stream ? STR(",\"stream\":true") : STR(",\"stream\":false"));
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        put(o, times[i].name);
        put_u64(o, times[i].ns);
    }
    put_text(o, ",\"status\":");
    put_u64(o, (uint64_t)r->status);
    put_text(o, "}\n");
}
