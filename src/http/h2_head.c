// SPDX-License-Identifier: MIT
#include "http/h2_head.h"

#include "base/mem.h"

enum { FIELD_OVERHEAD = 32 }; // of each field, in what SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113 section 6.5.2)

struct h2_block {
    const struct http_limits *limits;
    bool request;
    struct head head;
    struct str status, host, length, expect;
    unsigned hosts, lengths, expects, cookies;
    unsigned seen; // fields, those that are left out and crumbs of cookies too
    size_t size;
    enum err error; // the first thing that was wrong
    const char *problem;
    char *bytes, *at; // names and values behind `fields`; its first free byte
    struct field fields[];
};

struct h2_block *h2_block_create(const struct http_limits *limits, bool request) {
    size_t fields = limits->fields * sizeof(struct field);
    size_t bytes = limits->head_bytes * (request ? 2 : 1); // as much again for cookies that are joined
    struct h2_block *b = try_malloc(sizeof *b + fields + bytes);
    if (b) {
        b->limits = limits;
        b->request = request;
        h2_block_reset(b);
    }
    return b;
}

void h2_block_destroy(struct h2_block *b) { free(b); }

void h2_block_reset(struct h2_block *b) {
    const struct http_limits *limits = b->limits;
    *b = (struct h2_block){.limits = limits, .request = b->request};
    b->bytes = b->at = (char *)(b->fields + limits->fields);
    b->head.fields = (struct fields){.v = b->fields, .cap = limits->fields};
    b->head.minor = 1;
}

static void refuse(struct h2_block *b, enum err e, const char *problem) {
    if (b->error == OK) {
        b->error = b->request ? e : ERR_PROTOCOL;
        b->problem = problem;
    }
}

static struct str keep(struct h2_block *b, struct str s) {
    char *at = b->at;
    if (s.len) {
        memcpy(at, s.ptr, s.len);
    }
    b->at += s.len;
    return str_from(at, s.len);
}

static void add_pseudo(struct h2_block *b, struct str name, struct str value) {
    if (str_eq(name, STR(":status"))) {
        b->status = keep(b, value);
    } else if (str_eq(name, STR(":method"))) {
        b->head.method_name = keep(b, value);
    } else if (str_eq(name, STR(":path"))) {
        if (value.len > b->limits->target_bytes) {
            refuse(b, ERR_TARGET_LONG, "the request target is longer than the limit");
        }
        b->head.target = keep(b, value);
    } else if (str_eq(name, STR(":authority"))) {
        b->head.authority = keep(b, value);
    } // the scheme says nothing that the connection does not
}

static void note(struct h2_block *b, const struct field *f) {
    if (f->id == FIELD_HOST) {
        b->host = f->value;
        b->hosts++;
    } else if (f->id == FIELD_CONTENT_LENGTH) {
        b->length = f->value;
        b->lengths++;
    } else if (f->id == FIELD_EXPECT) {
        b->expect = f->value;
        b->expects++;
    } else if (f->id == FIELD_COOKIE) {
        b->cookies++;
    }
}

static void add_field(struct h2_block *b, struct str name, struct str value) {
    enum field_id id = field_id(name);
    if (id == FIELD_OTHER && str_find(name, '_') < name.len) { // as in HTTP/1 (facts A13)
        return;
    }
    struct field *f = &b->fields[b->head.fields.n++];
    *f = (struct field){keep(b, name), keep(b, str_trim(value)), id};
    note(b, f);
}

bool h2_block_add(struct h2_block *b, struct str name, struct str value) {
    b->seen++;
    b->size += name.len + value.len + FIELD_OVERHEAD;
    if (b->seen > b->limits->fields || b->size > b->limits->head_bytes) {
        refuse(b, ERR_HEAD_FULL, "the header fields are more or larger than the limit");
        return b->seen <= 4 * b->limits->fields && b->size <= 4 * b->limits->head_bytes;
    }
    if (name.len && name.ptr[0] == ':') {
        add_pseudo(b, name, value);
    } else {
        add_field(b, name, value);
    }
    return true;
}

// RFC 9113 section 8.2.3: crumbs of cookies become one field, where the first was.
static void join_cookies(struct h2_block *b) {
    struct fields *fields = &b->head.fields;
    struct field *first = NULL;
    struct str joined = {b->at, 0};
    unsigned kept = 0;
    for (unsigned i = 0; i < fields->n; i++) {
        struct field *f = &fields->v[i];
        bool crumb = f->id == FIELD_COOKIE;
        if (crumb) {
            keep(b, joined.len ? STR("; ") : STR(""));
            keep(b, f->value);
            joined.len = (size_t)(b->at - joined.ptr);
        }
        if (!crumb || !first) {
            fields->v[kept] = *f;
            first = crumb ? &fields->v[kept] : first;
            kept++;
        }
    }
    fields->n = kept;
    first->value = joined;
}

static void check_length(struct h2_block *b, bool end) {
    uint64_t length = 0;
    if (b->lengths > 1 || (b->lengths && (parse_u64(b->length, &length) != OK || length > INT64_MAX))) {
        refuse(b, ERR_FRAMING, "Content-Length is not one plain decimal number");
    }
    b->head.body_len = b->lengths ? (int64_t)length : end ? 0 : BODY_UNKNOWN;
}

static void check_authority(struct h2_block *b) {
    struct head *h = &b->head;
    if (b->hosts > 1 || (b->hosts && h->authority.len && !str_ieq(b->host, h->authority))) {
        refuse(b, ERR_INVALID, "Host and :authority name different hosts"); // facts A27
    }
    if (!h->authority.len) {
        h->authority = b->host;
    }
    if (!authority_valid(h->authority)) {
        refuse(b, ERR_INVALID, ":authority is not a host name with an optional port");
    }
}

static void check_request(struct h2_block *b, bool end) {
    struct head *h = &b->head;
    h->method = method_parse(h->method_name);
    if (h->method == METHOD_CONNECT) {
        refuse(b, ERR_METHOD, "this is no proxy for CONNECT");
    }
    check_authority(b);
    if (!target_valid(h->target) ||
        (h->target.ptr[0] != '/' && !(h->method == METHOD_OPTIONS && str_eq(h->target, STR("*"))))) {
        refuse(b, ERR_INVALID, "the request target must be a path");
    }
    if (b->expects > 1 || (b->expects && !str_ieq(b->expect, STR("100-continue")))) {
        refuse(b, ERR_EXPECT, "the only expectation understood is 100-continue");
    }
    h->expect_continue = b->expects && !end;
    if (b->cookies > 1) {
        join_cookies(b);
    }
}

static void check_response(struct h2_block *b) {
    struct head *h = &b->head;
    uint64_t status = 0;
    if (parse_u64(b->status, &status) != OK || status < 100 || status > 599 || status == 101) {
        refuse(b, ERR_PROTOCOL, "the answer has an impossible status");
    }
    h->status = (int)status;
    if (status < 200 || status == 204) {
        h->body_len = 0;
    }
}

enum err h2_block_finish(struct h2_block *b, bool end, struct head **head, const char **problem) {
    if (b->error == OK) {
        check_length(b, end);
    }
    if (b->error == OK && b->request) {
        check_request(b, end);
    } else if (b->error == OK) {
        check_response(b);
    }
    *head = &b->head;
    *problem = b->problem;
    return b->error;
}

// ---- keeping

static size_t text_size(const struct head *head) {
    size_t n = head->method_name.len + head->target.len + head->authority.len;
    for (unsigned i = 0; i < head->fields.n; i++) {
        n += head->fields.v[i].name.len + head->fields.v[i].value.len;
    }
    return n;
}

static void move(struct str *s, char **at) {
    if (s->len) {
        memcpy(*at, s->ptr, s->len);
    }
    s->ptr = *at;
    *at += s->len;
}

struct head *h2_head_keep(const struct head *head) {
    size_t fields = head->fields.n * sizeof(struct field);
    struct head *copy = try_malloc(sizeof *copy + fields + text_size(head));
    if (!copy) {
        return NULL;
    }
    *copy = *head;
    copy->fields.v = (struct field *)(void *)(copy + 1);
    copy->fields.cap = copy->fields.n;
    char *at = (char *)(copy + 1) + fields;
    move(&copy->method_name, &at);
    move(&copy->target, &at);
    move(&copy->authority, &at);
    for (unsigned i = 0; i < copy->fields.n; i++) {
        copy->fields.v[i] = head->fields.v[i];
        move(&copy->fields.v[i].name, &at);
        move(&copy->fields.v[i].value, &at);
    }
    return copy;
}
