// SPDX-License-Identifier: MIT
#include "tape/tape.h"

#include <assert.h>
#include <sys/uio.h>

enum { CHUNK_MIN = 4096, READ_PARTS = 8 };

struct tape_chunk {
    struct tape_chunk *next;
    uint64_t at; // position of the first byte
    size_t len;
    size_t room;
    char bytes[];
};

struct tape *tape_create(const struct tape_events *events, void *writer) {
    struct tape *t = xcalloc(1, sizeof *t);
    t->references = 1;
    t->events = events;
    t->writer = writer;
    list_init(&t->readers);
    return t;
}

struct tape *tape_ref(struct tape *t) {
    t->references++;
    return t;
}

static void drop_before(struct tape *t, uint64_t position) {
    while (t->first && t->first->at + t->first->len <= position) {
        struct tape_chunk *next = t->first->next;
        free(t->first);
        t->first = next;
    }
    if (!t->first) {
        t->last = NULL;
    }
}

void tape_unref(struct tape *t) {
    if (t && --t->references == 0) {
        assert(list_empty(&t->readers));
        drop_before(t, UINT64_MAX);
        free(t->head);
        free(t->problem);
        free(t);
    }
}

static struct tape_reader *reader_of(struct list *node) { return container_of(node, struct tape_reader, node); }

static uint64_t slowest(const struct tape *t) {
    uint64_t position = t->written;
    list_each(node, (struct list *)(uintptr_t)&t->readers) { position = MIN(position, reader_of(node)->position); }
    return position;
}

// Drops what nobody needs; tells the writer when there is room again.
static void settle(struct tape *t) {
    if (t->kept) {
        return;
    }
    uint64_t position = slowest(t);
    drop_before(t, position);
    if (t->full && t->written - position <= TAPE_WINDOW / 2) {
        t->full = false;
        if (t->events && t->end == TAPE_RUNNING) {
            t->events->on_room(t);
        }
    }
}

static bool record(struct tape *t, struct str bytes) {
    struct tape_chunk *c = t->last;
    uint64_t at = t->written;
    if (c && c->at + c->len == at && c->room > c->len) {
        size_t n = MIN(bytes.len, c->room - c->len);
        memcpy(c->bytes + c->len, bytes.ptr, n);
        c->len += n;
        at += n;
        bytes = str_skip(bytes, n);
    }
    if (bytes.len == 0) {
        return true;
    }
    size_t room = MAX(bytes.len, (size_t)CHUNK_MIN);
    c = try_malloc(sizeof *c + room);
    if (!c) {
        return false;
    }
    *c = (struct tape_chunk){.at = at, .len = bytes.len, .room = room};
    memcpy(c->bytes, bytes.ptr, bytes.len);
    if (t->last) {
        t->last->next = c;
    } else {
        t->first = c;
    }
    t->last = c;
    return true;
}

// Out of memory the tape's end lies before what faster readers were already given.
static void finish_reader(struct tape_reader *r) {
    if (r->position >= r->tape->written && r->tape->end != TAPE_RUNNING && r->tape->end != TAPE_WHOLE) {
        r->events->on_end(r, r->tape->end);
    }
}

static void record_head(struct tape *t, const struct tape_head *head) {
    t->has_head = true;
    t->status = head->status;
    t->body_len = head->body_len;
    if (t->kept) {
        t->head = xmalloc(fields_packed_size(&head->fields));
        fields_pack(&head->fields, t->head);
    }
}

void tape_put_head(struct tape *t, const struct tape_head *head) {
    assert(!t->has_head && t->end == TAPE_RUNNING);
    if (head->status >= 200) {
        record_head(t, head);
    }
    tape_ref(t); // a reader may leave, and be the last one
    list_each(node, &t->readers) { reader_of(node)->events->on_head(reader_of(node), head); }
    tape_unref(t);
}

void tape_append(struct tape *t, struct str bytes, bool last) {
    uint64_t from = t->written; // first byte of `bytes`
    uint64_t wanted = t->kept ? from : from + bytes.len;
    struct iovec v = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    assert(t->end == TAPE_RUNNING);
    tape_ref(t); // a reader may leave, and be the last one
    t->end = last ? TAPE_WHOLE : TAPE_RUNNING;
    list_each(node, &t->readers) {
        struct tape_reader *r = reader_of(node);
        if (r->position == from) {
            r->position += r->events->on_bytes(r, &v, bytes.len ? 1 : 0, last);
        }
    }
    list_each(node, &t->readers) { // also one that joined meanwhile
        wanted = MIN(wanted, MAX(reader_of(node)->position, from));
    }
    struct str rest = str_skip(bytes, (size_t)(wanted - from));
    t->written = wanted;
    bool recorded = rest.len == 0 || record(t, rest);
    t->written = recorded ? from + bytes.len : wanted;
    if (!recorded) {
        t->end = TAPE_RUNNING;
        tape_end_cut(t, ERR_NOMEM, 0, "out of memory for the answer");
    } else if (!t->kept) {
        settle(t);
        t->full = t->written - slowest(t) > TAPE_WINDOW;
    }
    tape_unref(t);
}

static void end_tape(struct tape *t, enum tape_end end) {
    tape_ref(t);
    t->end = end;
    list_each(node, &t->readers) { finish_reader(reader_of(node)); }
    tape_unref(t);
}

void tape_end_cut(struct tape *t, enum err error, int reason, const char *problem) {
    assert(t->end == TAPE_RUNNING);
    t->error = error;
    t->reason = reason;
    t->problem = str_dup(str_c(problem));
    end_tape(t, TAPE_CUT);
}

void tape_end_cancelled(struct tape *t) {
    assert(t->end == TAPE_RUNNING);
    end_tape(t, TAPE_CANCELLED);
}

void tape_open(struct tape *t, struct tape_reader *r, const struct tape_reader_events *events) {
    assert(t->written == 0 || (t->first && t->first->at == 0)); // nothing of it was dropped yet
    *r = (struct tape_reader){.tape = tape_ref(t), .events = events};
    list_push_back(&t->readers, &r->node);
}

// The recorded parts from a position on.
static int recorded(const struct tape *t, uint64_t position, struct iovec *v, size_t *total) {
    int count = 0;
    *total = 0;
    for (struct tape_chunk *c = t->first; c && count < READ_PARTS; c = c->next) {
        if (c->at + c->len > position) {
            size_t skip = position > c->at ? (size_t)(position - c->at) : 0;
            v[count++] = (struct iovec){c->bytes + skip, c->len - skip};
            *total += c->len - skip;
        }
    }
    return count;
}

void tape_read(struct tape_reader *r) {
    struct tape *t = tape_ref(r->tape);
    bool more = true;
    while (more && r->tape && (r->position < t->written || t->end == TAPE_WHOLE)) {
        struct iovec v[READ_PARTS];
        size_t total = 0;
        int count = recorded(t, r->position, v, &total);
        bool last = t->end == TAPE_WHOLE && r->position + total == t->written;
        size_t taken = r->events->on_bytes(r, v, count, last);
        r->position += taken;
        more = taken == total && !last;
    }
    if (r->tape) {
        finish_reader(r);
    }
    settle(t);
    tape_unref(t);
}

void tape_leave(struct tape_reader *r) {
    struct tape *t = r->tape;
    if (!t) {
        return;
    }
    list_unlink(&r->node);
    r->tape = NULL;
    settle(t);
    if (list_empty(&t->readers) && t->end == TAPE_RUNNING && t->events) {
        t->events->on_abandoned(t);
    }
    tape_unref(t);
}
