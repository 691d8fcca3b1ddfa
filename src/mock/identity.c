// SPDX-License-Identifier: MIT
#include "mock/identity.h"

uint64_t identity_key(struct draw_counts *counts, uint64_t seed, const struct fields *fields, struct str body) {
    struct str nonce = fields_value(fields, FIELD_X_MOCK_NONCE);
    uint64_t key = draw_key(seed, nonce.ptr ? nonce : body);
    return draw_bits(key, draw_count(counts, key));
}

// Unescaped, unless it is too long for that: it tells the session as well as it is.
static struct str string_of(struct str raw, char *room, size_t size) {
    struct str string = raw_string(raw, room, size);
    return string.ptr || !raw_is_string(raw) ? string : raw_inside(raw);
}

struct str identity_session(const struct fields *fields, struct ask *ask) {
    struct str session = fields_value(fields, FIELD_X_MOCK_SESSION);
    if (!session.len) {
        session = string_of(ask->members[ASK_USER], ask->session_room, sizeof ask->session_room);
    }
    if (!session.len) {
        struct str user_id = raw_member(ask->members[ASK_METADATA], STR("user_id"));
        session = string_of(user_id, ask->session_room, sizeof ask->session_room);
    }
    return session.len ? session : fields_value(fields, FIELD_COOKIE);
}
