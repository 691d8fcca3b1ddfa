// SPDX-License-Identifier: MIT
// Who may call: one credential, wherever it stands, compared whole.
#include "gateway/who.h"

#include "check.h"

enum { MOST = 4 };

struct presented {
    const char *name;
    const char *value;
};

static enum who_verdict look(const struct who *who, const struct presented *p, unsigned n, struct who_found *found) {
    struct field room[MOST];
    struct fields fields = FIELDS(room);
    for (unsigned i = 0; i < n; i++) {
        check_ok(fields_add(&fields, str_c(p[i].name), str_c(p[i].value)));
    }
    return who_check(who, &fields, found);
}

static enum who_verdict verdict(const struct who *who, const struct presented *p, unsigned n) {
    struct who_found found;
    return look(who, p, n, &found);
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
    struct who_found found;
    struct digest none = {{0}};
    check_int(look(&who, &(struct presented){"authorization", "Bearer a"}, 1, &found), WHO_FINE);
    check_int(found.client, WHO_NO_CLIENT);
    assert_memory_equal(&found.tenant, &none, sizeof none);
    who_finish(&who);
    who_finish(&who);
}

// Each key is one client's or nobody's in particular, and who is refused is no client.
static void key_tells_the_client(void **state UNUSED) {
    static struct config_key keys[] = {{STR("door")}};
    static struct config_key first[] = {{STR("first-a")}, {STR("first-b")}};
    static struct config_key second[] = {{STR("second-a")}};
    static struct config_client clients[] = {{.keys = first, .key_count = 2}, {.keys = second, .key_count = 1}};
    static const struct {
        const char *key;
        enum who_verdict verdict;
        int client;
    } cases[] = {{"door", WHO_FINE, WHO_NO_CLIENT}, {"first-a", WHO_FINE, 0},    {"first-b", WHO_FINE, 0},
                 {"second-a", WHO_FINE, 1},         {"second", WHO_UNKNOWN, -1}, {"", WHO_UNKNOWN, -1}};
    struct config config = {.keys = keys, .key_count = 1, .clients = clients, .client_count = 2};
    struct who who;
    struct who_found found;
    for (unsigned general = 0; general < 2; general++) { // with and without keys that are nobody's
        config.key_count = general;
        who_init(&who, &config);
        check_int(who.count, 3 + general);
        for (size_t i = !general; i < ARRAY_LEN(cases); i++) {
            struct presented p = {"x-api-key", cases[i].key};
            struct digest digest = digest_sha256(str_c(cases[i].key));
            check_int(look(&who, &p, 1, &found), cases[i].verdict);
            check_int(found.client, cases[i].client);
            assert_memory_equal(&found.tenant, &digest, sizeof digest);
        }
        check_int(look(&who, &(struct presented){"authorization", "Basic first-a"}, 1, &found), WHO_UNKNOWN);
        check_int(found.client, WHO_NO_CLIENT);
        check_int(look(&who, NULL, 0, &found), WHO_NOBODY);
        check_int(found.client, WHO_NO_CLIENT);
        who_finish(&who);
    }
}

TESTS(TEST(key_tells_the_client), TEST(key_is_found_wherever_it_stands), TEST(nothing_presented_is_nobody),
      TEST(anything_else_is_unknown), TEST(two_different_credentials_are_refused),
      TEST(without_keys_everybody_may_call))
