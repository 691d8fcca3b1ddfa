// SPDX-License-Identifier: MIT
#include "mock/identity.h"

uint64_t identity_key(struct draw_counts *counts, uint64_t seed, const struct fields *fields, struct str body) {
    struct str nonce = fields_value(fields, FIELD_X_MOCK_NONCE);
    uint64_t key = draw_key(seed, nonce.ptr ? nonce : body);
    return draw_bits(key, draw_count(counts, key));
}

struct str identity_session(const struct fields *fields, const struct json_value *root) {
    const struct str all[] = {
        fields_value(fields, FIELD_X_MOCK_SESSION),
        json_string(json_member(root, "user")),
        json_string(json_member(json_member(root, "metadata"), "user_id")),
        fields_value(fields, FIELD_COOKIE),
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i].len) {
            return all[i];
        }
    }
    return (struct str){NULL, 0};
}
