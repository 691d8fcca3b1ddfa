// SPDX-License-Identifier: MIT
#include "gateway/who.h"

#include "base/mem.h"
#include "http/msg.h"

static void add_keys(struct who *who, const struct config_key *keys, unsigned n, unsigned owner) {
    for (unsigned i = 0; i < n; i++) {
        who->owners[who->count] = owner;
        who->keys[who->count++] = digest_sha256(keys[i].secret);
    }
}

void who_init(struct who *who, const struct config *config) {
    size_t n = config->key_count;
    for (unsigned i = 0; i < config->client_count; i++) {
        n += config->clients[i].key_count;
    }
    *who = (struct who){.keys = xcalloc(n, sizeof *who->keys), .owners = xcalloc(n, sizeof *who->owners)};
    add_keys(who, config->keys, config->key_count, 0);
    for (unsigned i = 0; i < config->client_count; i++) {
        add_keys(who, config->clients[i].keys, config->clients[i].key_count, i + 1);
    }
}

void who_finish(struct who *who) {
    free(who->keys);
    free(who->owners);
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

enum who_verdict who_check(const struct who *who, const struct fields *fields, struct who_found *found) {
    struct presented presented;
    *found = (struct who_found){.client = WHO_NO_CLIENT};
    if (!find_presented(fields, &presented)) {
        return WHO_TWO;
    }
    if (who->count == 0) {
        return WHO_FINE;
    }
    if (!presented.text.ptr) {
        return WHO_NOBODY;
    }
    unsigned known = 0;
    unsigned owner = 0;
    found->tenant = digest_sha256(presented.text);
    for (unsigned i = 0; i < who->count; i++) { // all of them: the time says nothing about which
        unsigned same = digest_equal(&who->keys[i], &found->tenant);
        known |= same;
        owner |= (0u - same) & who->owners[i]; // no key stands twice
    }
    if (!known || presented.foreign) {
        return WHO_UNKNOWN;
    }
    found->client = (int)owner - 1;
    return WHO_FINE;
}

struct digest who_tenant(const struct fields *fields) {
    struct presented presented;
    bool one = find_presented(fields, &presented);
    return one && presented.text.ptr ? digest_sha256(presented.text) : (struct digest){{0}};
}
