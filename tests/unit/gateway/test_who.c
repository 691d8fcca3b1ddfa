// SPDX-License-Identifier: MIT
// Who may call: one credential, wherever it stands, compared whole.
#include "gateway/who.h"

#include "check.h"

enum { MOST = 4 };

struct presented {
    const char *name;
    const char *value;
};

static enum who_verdict verdict(const struct who *who, const struct presented *p, unsigned n) {
    struct field room[MOST];
    struct fields fields = FIELDS(room);
    for (unsigned i = 0; i < n; i++) {
        check_ok(fields_add(&fields, str_c(p[i].name), str_c(p[i].value)));
    }
    struct digest tenant;
    return who_check(who, &fields, &tenant);
}

#define VERDICT(who, ...)                                                                                              \
    verdict((who), (const struct presented[]){__VA_ARGS__}, ARRAY_LEN(((const struct presented[]){__VA_ARGS__})))

static void open_who(struct who *who, struct config *config) {
    static struct config_key keys[] = {{STR("first-key")}, {STR("second key")}, {STR("k")}};
    *config = (struct config){.keys = keys, .key_count = ARRAY_LEN(keys)};
    who_init(who, config);
}

static void key_is_found_wherever_it_stands(void **state UNUSED) {
    struct config config;
    struct who who;
    open_who(&who, &config);
    check_int(VERDICT(&who, {"Authorization", "Bearer first-key"}), WHO_FINE);
    check_int(VERDICT(&who, {"authorization", "bearer   second key"}), WHO_FINE);
    check_int(VERDICT(&who, {"AUTHORIZATION", "BEARER k"}), WHO_FINE);
    check_int(VERDICT(&who, {"x-api-key", "first-key"}), WHO_FINE);
    check_int(VERDICT(&who, {"Api-Key", "first-key"}), WHO_FINE);
    check_int(VERDICT(&who, {"x-api-key", "Bearer first-key"}), WHO_UNKNOWN); // RFC 6750 is about Authorization
    check_int(VERDICT(&who, {"a", "b"}, {"X-API-KEY", "k"}, {"c", "d"}), WHO_FINE);
    who_finish(&who);
}

static void nothing_presented_is_nobody(void **state UNUSED) {
    struct config config;
    struct who who;
    open_who(&who, &config);
    check_int(VERDICT(&who, {"cookie", "first-key"}), WHO_NOBODY);
    check_int(VERDICT(&who, {"x-api-key-2", "first-key"}), WHO_NOBODY);
    who_finish(&who);
}

// Only the whole key opens: no prefix, no other case, nothing behind it.
static void anything_else_is_unknown(void **state UNUSED) {
    static const char *const wrong[] = {"",
                                        "first-ke",
                                        "first-key ",
                                        "First-Key",
                                        "first-keyfirst-key",
                                        "Bearer",
                                        "Bearer ",
                                        "Basic first-key",
                                        "Bearer Bearer first-key",
                                        "first-key,k",
                                        "kk",
                                        "first-key",
                                        "k"};
    struct config config;
    struct who who;
    open_who(&who, &config);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        check_int(VERDICT(&who, {"authorization", wrong[i]}), WHO_UNKNOWN);
    }
    who_finish(&who);
}

static void two_different_credentials_are_refused(void **state UNUSED) {
    struct config config;
    struct who who;
    open_who(&who, &config);
    check_int(VERDICT(&who, {"authorization", "Bearer first-key"}, {"x-api-key", "k"}), WHO_TWO);
    check_int(VERDICT(&who, {"authorization", "Bearer first-key"}, {"authorization", "Bearer k"}), WHO_TWO);
    check_int(VERDICT(&who, {"api-key", "wrong"}, {"x-api-key", "k"}), WHO_TWO);
    check_int(VERDICT(&who, {"authorization", ""}, {"x-api-key", "k"}), WHO_TWO);
    check_int(VERDICT(&who, {"authorization", "Bearer k"}, {"x-api-key", "k"}, {"api-key", "k"}), WHO_FINE);
    who_finish(&who);
}

// Whoever reaches the listener; but what goes on upstream must still be one credential.
static void without_keys_everybody_may_call(void **state UNUSED) {
    struct config config = {.key_count = 0};
    struct who who;
    who_init(&who, &config);
    check_int(VERDICT(&who, {"a", "b"}), WHO_FINE);
    check_int(VERDICT(&who, {"authorization", "Bearer whatever"}), WHO_FINE);
    check_int(VERDICT(&who, {"authorization", "Bearer a"}, {"x-api-key", "b"}), WHO_TWO);
    who_finish(&who);
    who_finish(&who);
}

TESTS(TEST(key_is_found_wherever_it_stands), TEST(nothing_presented_is_nobody), TEST(anything_else_is_unknown),
      TEST(two_different_credentials_are_refused), TEST(without_keys_everybody_may_call))
