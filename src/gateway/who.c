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

struct presented {
    struct str text; // ptr NULL: none
    bool foreign;    // of a scheme that none of our keys comes by: it is an upstream's, and tells clients apart
};

// Authorization carries it behind "Bearer " (RFC 6750 section 2.1).
static struct presented credential(const struct field *field) {
    struct str scheme = STR("bearer ");
    struct str value = field->value;
    bool bearer = str_ieq(str_first(value, scheme.len), scheme);
    if (field->id != FIELD_AUTHORIZATION) {
        return (struct presented){value, false};
    }
    return bearer ? (struct presented){str_trim(str_skip(value, scheme.len)), false} : (struct presented){value, true};
}

// False: two different ones.
static bool find_presented(const struct fields *fields, struct presented *presented) {
    *presented = (struct presented){.text = {NULL, 0}};
    for (unsigned i = 0; i < fields->n; i++) {
        if (!(field_flags(fields->v[i].id) & FIELD_CREDENTIAL)) {
            continue;
        }
        struct presented found = credential(&fields->v[i]);
        bool same = str_eq(presented->text, found.text) && presented->foreign == found.foreign;
        if (presented->text.ptr && !same) {
            return false;
        }
        *presented = found;
    }
    return true;
}

enum who_verdict who_check(const struct who *who, const struct fields *fields, struct digest *tenant) {
    struct presented presented;
    if (!find_presented(fields, &presented)) {
        return WHO_TWO;
    }
    if (who->count == 0) {
        return WHO_FINE;
    }
    if (!presented.text.ptr) {
        return WHO_NOBODY;
    }
    struct digest digest = digest_sha256(presented.text);
    unsigned found = 0;
    for (unsigned i = 0; i < who->count; i++) { // all of them: the time says nothing about which
        found |= digest_equal(&who->keys[i], &digest);
    }
    *tenant = digest;
    return found && !presented.foreign ? WHO_FINE : WHO_UNKNOWN;
}

struct digest who_tenant(const struct fields *fields) {
    struct presented presented;
    bool one = find_presented(fields, &presented);
    return one && presented.text.ptr ? digest_sha256(presented.text) : (struct digest){{0}};
}
