// SPDX-License-Identifier: MIT
#include "gateway/who.h"

#include "base/mem.h"
#include "http/msg.h"

void who_init(struct who *who, const struct config *config) {
    *who = (struct who){.count = config->key_count};
    who->keys = xcalloc(config->key_count, sizeof *who->keys);
    for (unsigned i = 0; i < config->key_count; i++) {
        who->keys[i] = digest_sha256(config->keys[i].secret);
    }
}

void who_finish(struct who *who) {
    free(who->keys);
    *who = (struct who){0};
}

// Authorization carries it behind "Bearer " (RFC 6750 section 2.1); any other scheme is no credential of ours, but
// it is one: an empty string, which no key equals.
static struct str credential(const struct field *field) {
    struct str scheme = STR("bearer ");
    struct str value = field->value;
    if (field->id != FIELD_AUTHORIZATION) {
        return value;
    }
    return str_ieq(str_first(value, scheme.len), scheme) ? str_trim(str_skip(value, scheme.len)) : STR("");
}

// False: two different ones. ptr == NULL: none.
static bool find_presented(const struct fields *fields, struct str *presented) {
    *presented = (struct str){NULL, 0};
    for (unsigned i = 0; i < fields->n; i++) {
        if (!(field_flags(fields->v[i].id) & FIELD_CREDENTIAL)) {
            continue;
        }
        struct str found = credential(&fields->v[i]);
        if (presented->ptr && !str_eq(*presented, found)) {
            return false;
        }
        *presented = found;
    }
    return true;
}

enum who_verdict who_check(const struct who *who, const struct fields *fields, struct digest *tenant) {
    struct str presented;
    if (!find_presented(fields, &presented)) {
        return WHO_TWO;
    }
    if (who->count == 0) {
        return WHO_FINE;
    }
    if (!presented.ptr) {
        return WHO_NOBODY;
    }
    struct digest digest = digest_sha256(presented);
    unsigned found = 0;
    for (unsigned i = 0; i < who->count; i++) { // all of them: the time says nothing about which
        found |= digest_equal(&who->keys[i], &digest);
    }
    *tenant = digest;
    return found ? WHO_FINE : WHO_UNKNOWN;
}

struct digest who_tenant(const struct fields *fields) {
    struct str presented;
    bool one = find_presented(fields, &presented);
    return one && presented.ptr ? digest_sha256(presented) : (struct digest){{0}};
}
