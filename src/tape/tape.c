// SPDX-License-Identifier: MIT
#include "tape/tape.h"

#include <assert.h>
#include <stdatomic.h>
#include <sys/uio.h>

enum { CHUNK_MIN = 4096, READ_PARTS = 8, MARKS_MIN = 32 };

// Bytes, and who holds them: a chunk of this tape, chunks and parts of others. Only this tape adds to a block, behind
// what the others were shown.
struct tape_block {
    atomic_uint references;
    char bytes[];
};

struct tape_chunk {
    struct tape_chunk *next;
    struct tape_block *block;
    char *bytes;
    uint64_t at; // position of the first byte
    size_t len;
    size_t room; // 0: somebody else's block
};

const char *tape_end_name(enum tape_end end) {
    switch (end) {
    case TAPE_RUNNING: return "running";
    case TAPE_WHOLE: return "complete";
    case TAPE_CUT: return "cut";
    case TAPE_CANCELLED: return "cancelled";
    }
    return "";
}

_Static_assert(sizeof(struct tape) <= 120, "what only kept tapes need is in the record");

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

static void drop_block(struct tape_block *block) {
    if (atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) == 1) {
        mem_free(block, 0);
    }
}

static void drop_before(struct tape *t, uint64_t position) {
    while (t->first && t->first->at + t->first->len <= position) {
        struct tape_chunk *c = t->first;
        t->first = c->next;
        drop_block(c->block);
        mem_free(c, sizeof *c);
    }
    if (!t->first) {
        t->last = NULL;
    }
}

void tape_keep(struct tape *t, uint64_t bytes, uint64_t created_s) {
    assert(bytes && !t->record && !t->has_head && t->written == 0);
    t->record = xcalloc(1, sizeof *t->record);
    t->record->keep = bytes;
    t->record->created_s = created_s;
}

void tape_unref(struct tape *t) {
    if (t && --t->references == 0) {
        assert(list_empty(&t->readers) && !tape_kept(t));
        drop_before(t, UINT64_MAX);
        if (t->record) {
            free(t->record->head_memory);
            free(t->record->marks.v);
            free(t->record->id);
            free(t->record);
        }
        free((char *)(uintptr_t)t->why.problem);
        mem_free(t, sizeof *t);
    }
}

static struct tape_reader *reader_of(struct list *node) { return container_of(node, struct tape_reader, node); }

static uint64_t slowest(const struct tape *t) {
    uint64_t position = t->written;
    list_each(node, (struct list *)(uintptr_t)&t->readers) { position = MIN(position, reader_of(node)->position); }
    return position;
}

uint64_t tape_start(const struct tape *t) { return t->first ? t->first->at : t->written; }

size_t tape_copied(const struct tape *t) {
    size_t bytes = 0;
    for (const struct tape_chunk *c = t->first; c; c = c->next) {
        bytes += c->room;
    }
    return bytes;
}

static size_t marks_before(const struct tape_marks *marks, uint64_t position) {
    size_t low = 0;
    size_t high = marks->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (marks->v[middle] < position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// Marks whose bytes are gone go when they are most of them.
static void drop_marks(struct tape_marks *marks, uint64_t start) {
    size_t gone = marks_before(marks, start);
    if (gone > marks->count / 2) {
        memmove(marks->v, marks->v + gone, (marks->count - gone) * sizeof *marks->v);
        marks->count -= gone;
        marks->gone += gone;
    }
}

static uint64_t keep_of(const struct tape *t) { return t->record ? t->record->keep : 0; }

// How far a reader may be behind.
static uint64_t window_of(const struct tape *t) { return MAX(keep_of(t), (uint64_t)TAPE_WINDOW); }

// Drops what nobody needs; tells the writer when there is room again. `position` is the slowest reader's.
static void settle(struct tape *t, uint64_t position) {
    if (t->first) {
        uint64_t keep_from = t->written > keep_of(t) ? t->written - keep_of(t) : 0;
        uint64_t before = t->first->at;
        drop_before(t, MIN(position, keep_from));
        if (t->record && tape_start(t) != before) {
            drop_marks(&t->record->marks, tape_start(t));
        }
    }
    if (t->full && t->written - position <= (t->held ? 0 : window_of(t) / 2)) {
        t->full = t->held = false;
        if (t->events && t->events->on_room && tape_running(t)) {
            t->events->on_room(t);
        }
    }
}

static struct tape_chunk *new_chunk(size_t room) {
    struct tape_chunk *c = try_malloc(sizeof *c);
    struct tape_block *block = c ? try_malloc(sizeof *block + room) : NULL;
    if (!block) {
        mem_free(c, sizeof *c);
        return NULL;
    }
    atomic_init(&block->references, 1);
    *c = (struct tape_chunk){.block = block, .bytes = block->bytes, .room = room};
    return c;
}

static void push_chunk(struct tape *t, struct tape_chunk *c, uint64_t at, size_t len) {
    c->at = at;
    c->len = len;
    if (t->last) {
        t->last->next = c;
    } else {
        t->first = c;
    }
    t->last = c;
}

// Copies them, all or none. The answer's last bytes get no more room than they need.
static bool record(struct tape *t, struct str bytes, bool last) {
    struct tape_chunk *c = t->last;
    bool goes_on = c && c->room && c->at + c->len == t->written;
    size_t fit = goes_on ? MIN(bytes.len, c->room - c->len) : 0;
    struct str rest = str_skip(bytes, fit);
    struct tape_chunk *more = rest.len ? new_chunk(last ? rest.len : MAX(rest.len, (size_t)CHUNK_MIN)) : NULL;
    if (rest.len && !more) {
        return false;
    }
    if (fit) {
        memcpy(c->bytes + c->len, bytes.ptr, fit);
        c->len += fit;
    }
    if (more) {
        memcpy(more->bytes, rest.ptr, rest.len);
        push_chunk(t, more, t->written + fit, rest.len);
    }
    return true;
}

// Holds on to the block they lie in.
static bool record_shared(struct tape *t, struct str bytes, struct tape_block *block) {
    struct tape_chunk *c = try_malloc(sizeof *c);
    if (!c) {
        return false;
    }
    atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
    *c = (struct tape_chunk){.block = block, .bytes = (char *)(uintptr_t)bytes.ptr};
    push_chunk(t, c, t->written, bytes.len);
    return true;
}

// ---- the writer's side

// Out of memory the tape's end lies before what faster readers were already given.
static void finish_reader(struct tape_reader *r) {
    const struct tape *t = r->tape;
    if (r->position >= t->written && !tape_running(t) && t->why.end != TAPE_WHOLE) {
        r->events->on_end(r, &t->why);
    }
}

static void tell_head(struct tape_reader *r, const struct tape_head *head) {
    r->has_head = r->has_head || head->status >= 200;
    r->events->on_head(r, head);
}

// For readers to come: the fields with all they point to in one piece of memory.
static bool record_fields(struct tape_record *to, const struct fields *fields) {
    to->head_memory = fields_copy(fields, &to->fields);
    return to->head_memory;
}

void tape_put_head(struct tape *t, const struct tape_head *head) {
    assert(!t->has_head && tape_running(t));
    tape_ref(t); // a reader may leave, and be the last one
    bool recorded = true;
    if (head->status >= 200) {
        t->has_head = true;
        t->status = head->status;
        t->body_len = head->body_len;
        recorded = !t->record || record_fields(t->record, &head->fields);
    }
    if (!recorded) {
        tape_finish(t, &(struct tape_why){TAPE_CUT, ERR_NOMEM, 0, 0, "there was no memory for the answer"});
    } else {
        list_each(node, &t->readers) { tell_head(reader_of(node), head); }
    }
    tape_unref(t);
}

// Of a kept tape that is full: readers that hold up others, or a writer that cannot wait, are given up (ERR_FULL); those
// that hold up only the writer do so. Returns the slowest reader's position, which `position` was.
static uint64_t give_up_slow(struct tape *t, uint64_t position) {
    static const struct tape_why outrun = {TAPE_CUT, ERR_FULL, 0, 0, "the answer was read too slowly"};
    bool others = t->events && !t->events->on_room;
    if (!t->full || !t->record || !tape_running(t)) {
        return position;
    }
    list_each(node, &t->readers) { others = others || t->written - reader_of(node)->position <= window_of(t); }
    if (!others) {
        return position;
    }
    list_each(node, &t->readers) {
        if (t->written - reader_of(node)->position > window_of(t)) {
            reader_of(node)->events->on_end(reader_of(node), &outrun);
        }
    }
    return slowest(t);
}

static void append(struct tape *t, struct str bytes, struct tape_block *block, bool last) {
    uint64_t from = t->written; // first byte of `bytes`
    struct iovec v = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    assert(tape_running(t));
    tape_ref(t); // a reader may leave, and be the last one
    t->why.end = last ? TAPE_WHOLE : TAPE_RUNNING;
    list_each(node, &t->readers) {
        struct tape_reader *r = reader_of(node);
        if (r->position == from) {
            r->position += r->events->on_bytes(r, &v, bytes.len ? 1 : 0, last);
        }
    }
    t->written = from + bytes.len;
    uint64_t slow = slowest(t); // also one that joined meanwhile
    uint64_t wanted = t->record ? from : MAX(slow, from);
    struct str rest = str_skip(bytes, (size_t)(wanted - from));
    t->written = wanted;
    bool recorded = rest.len == 0 || (block ? record_shared(t, rest, block) : record(t, rest, last));
    t->written = recorded ? from + bytes.len : wanted;
    bool left = t->why.end != TAPE_RUNNING && t->why.end != TAPE_WHOLE; // by its last reader: it has its end
    if (!recorded && !left) {
        t->why.end = TAPE_RUNNING;
        tape_finish(t, &(struct tape_why){TAPE_CUT, ERR_NOMEM, 0, 0, "there was no memory for the answer"});
    } else if (recorded) {
        t->full = t->full || t->written - slow > window_of(t);
        settle(t, give_up_slow(t, slow));
    }
    tape_unref(t);
}

bool tape_hold(struct tape *t) {
    t->held = !t->record && tape_running(t) && slowest(t) < t->written;
    t->full = t->full || t->held;
    return t->full;
}

void tape_append(struct tape *t, struct str bytes, bool last) { append(t, bytes, NULL, last); }

void tape_mark(struct tape *t, uint64_t position) {
    struct tape_marks *marks = &t->record->marks;
    if (marks->count == marks->room && !marks->lost) {
        size_t room = MAX(marks->room * 2, (size_t)MARKS_MIN);
        uint64_t *v = try_realloc(marks->v, room * sizeof *v);
        marks->lost = !v;
        marks->v = v ? v : marks->v;
        marks->room = v ? room : marks->room;
    }
    if (marks->lost) {
        return;
    }
    marks->v[marks->count++] = position;
}

void tape_finish(struct tape *t, const struct tape_why *why) {
    assert(tape_running(t) && why->end != TAPE_RUNNING && why->end != TAPE_WHOLE);
    tape_ref(t);
    t->why = *why;
    t->why.problem = why->problem ? str_dup(str_c(why->problem)) : NULL;
    list_each(node, &t->readers) { finish_reader(reader_of(node)); }
    tape_unref(t);
}

void tape_stop(struct tape *t, const struct tape_why *why) {
    if (t->events && tape_running(t)) {
        t->events->on_stop(t, why);
    }
}

// ---- the reader's side

bool tape_has(const struct tape *t, uint64_t position) { return position >= tape_start(t) && position <= t->written; }

void tape_open(struct tape *t, struct tape_reader *r, const struct tape_reader_events *events, uint64_t position) {
    assert(tape_has(t, position));
    *r = (struct tape_reader){.tape = tape_ref(t), .events = events, .position = position};
    list_push_back(&t->readers, &r->node);
    t->wanting++;
}

void tape_watch(struct tape *t, struct tape_reader *r, const struct tape_reader_events *events) {
    tape_open(t, r, events, tape_start(t));
    r->watches = true;
    t->wanting--;
}

enum err tape_find_mark(const struct tape *t, uint64_t n, uint64_t *position) {
    static const struct tape_marks none = {.v = NULL};
    const struct tape_marks *marks = t->record ? &t->record->marks : &none;
    if (n < marks->gone) {
        return ERR_GONE;
    }
    if (n - marks->gone >= marks->count) {
        return marks->lost ? ERR_GONE : tape_running(t) ? ERR_AGAIN : ERR_INVALID;
    }
    *position = marks->v[n - marks->gone];
    if (*position > t->written) { // on a mirror it may come before its bytes
        return tape_running(t) ? ERR_AGAIN : ERR_INVALID;
    }
    return *position < tape_start(t) ? ERR_GONE : OK;
}

// The chunk to look for a position from: `hint`, one that ends behind it, or NULL; chunks may be thousands.
static struct tape_chunk *chunk_near(const struct tape *t, uint64_t position, struct tape_chunk *hint) {
    return t->last && t->last->at <= position ? t->last : hint ? hint : t->first;
}

// The recorded parts from the reader's position on.
static int recorded(struct tape_reader *r, struct iovec *v, size_t *total) {
    int count = 0;
    uint64_t position = r->position;
    struct tape_chunk *c = chunk_near(r->tape, position, r->chunk);
    for (*total = 0; c && count < READ_PARTS; c = c->next) {
        if (c->at + c->len > position) {
            size_t skip = position > c->at ? (size_t)(position - c->at) : 0;
            v[count++] = (struct iovec){c->bytes + skip, c->len - skip};
            *total += c->len - skip;
        }
    }
    return count;
}

// A chunk that the reader has not passed is not dropped, so that it can be where to go on from.
static void advance(struct tape_reader *r, size_t taken) {
    struct tape_chunk *c = chunk_near(r->tape, r->position, r->chunk);
    r->position += taken;
    while (c && c->at + c->len <= r->position) {
        c = c->next;
    }
    r->chunk = c;
}

void tape_read(struct tape_reader *r) {
    struct tape *t = tape_ref(r->tape);
    bool more = true;
    if (t->has_head && !r->has_head) {
        struct tape_head head = tape_head(t);
        tell_head(r, &head);
    }
    while (more && r->tape && (r->position < t->written || t->why.end == TAPE_WHOLE)) {
        struct iovec v[READ_PARTS];
        size_t total = 0;
        int count = recorded(r, v, &total);
        bool last = t->why.end == TAPE_WHOLE && r->position + total == t->written;
        size_t taken = r->events->on_bytes(r, v, count, last);
        if (r->tape) {
            advance(r, taken);
        }
        more = taken == total && !last;
    }
    if (r->tape) {
        finish_reader(r);
    }
    settle(t, give_up_slow(t, slowest(t)));
    tape_unref(t);
}

void tape_leave(struct tape_reader *r) {
    struct tape *t = r->tape;
    if (!t) {
        return;
    }
    list_unlink(&r->node);
    t->wanting -= !r->watches;
    r->tape = NULL;
    if (t->wanting == 0 && !r->watches && tape_running(t) && t->events) {
        t->events->on_abandoned(t);
    }
    settle(t, slowest(t));
    tape_unref(t);
}

enum err tape_copy(const struct tape *t, struct buf *out) {
    enum err e = OK;
    for (const struct tape_chunk *c = t->first; c && e == OK; c = c->next) {
        e = buf_append(out, c->bytes, c->len);
    }
    return e;
}

// ---- sharing

// From chunk c on.
static int share(struct tape_chunk *c, uint64_t position, struct tape_part *parts, int room) {
    int count = 0;
    for (; c && count < room; c = c->next) {
        if (c->at + c->len > position) {
            size_t skip = position > c->at ? (size_t)(position - c->at) : 0;
            atomic_fetch_add_explicit(&c->block->references, 1, memory_order_relaxed);
            parts[count++] = (struct tape_part){c->block, str_from(c->bytes + skip, c->len - skip)};
        }
    }
    return count;
}

int tape_share(const struct tape *t, uint64_t position, struct tape_part *parts, int room) {
    return share(chunk_near(t, position, NULL), position, parts, room);
}

int tape_take(struct tape_reader *r, struct tape_part *parts, int room) {
    struct tape *t = tape_ref(r->tape);
    int count = share(chunk_near(t, r->position, r->chunk), r->position, parts, room);
    size_t taken = 0;
    for (int i = 0; i < count; i++) {
        taken += parts[i].bytes.len;
    }
    advance(r, taken);
    settle(t, give_up_slow(t, slowest(t)));
    tape_unref(t);
    return count;
}

void tape_part_drop(struct tape_part *part) {
    if (part->block) {
        drop_block(part->block);
        part->block = NULL;
    }
}

void tape_append_part(struct tape *t, struct tape_part *take_part, bool last) {
    append(t, take_part->bytes, take_part->block, last);
    tape_part_drop(take_part);
}
