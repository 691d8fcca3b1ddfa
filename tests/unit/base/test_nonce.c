// SPDX-License-Identifier: MIT
#include "base/nonce.h"

#include "check.h"

static void a_nonce_is_found_in_any_text(void **state UNUSED) {
    char text[NONCE_TEXT];
    check_str(nonce_format(nonce_make(0x00c0ffee, 17), text), "thaw-00c0ffee00000011");
    check(nonce_find(STR("thaw-00c0ffee00000011")) == nonce_make(0x00c0ffee, 17));
    check(nonce_find(STR("thaw this: thaw-not, thaw-00c0ffee00000012 and thaw-00c0ffee00000013")) ==
          nonce_make(0x00c0ffee, 18));
}

static void what_is_none_is_not_found(void **state UNUSED) {
    static const char *const none[] = {"", "thaw-", "thaw-00c0ffee0000001", "thaw-00c0ffee0000001g",
                                       "thaw 00c0ffee00000011"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        check(nonce_find(str_c(none[i])) == 0);
    }
}

TESTS(TEST(a_nonce_is_found_in_any_text), TEST(what_is_none_is_not_found))
