// SPDX-License-Identifier: MIT
#include "base/fields.h"

#include "check.h"

static void add_all(struct fields *f) {
    check_ok(fields_add(f, STR("Content-Type"), STR("application/json")));
    check_ok(fields_add(f, STR("Set-Cookie"), STR("a=1")));
    check_ok(fields_add(f, STR("X-Empty"), (struct str){NULL, 0}));
    check_ok(fields_add(f, STR("set-cookie"), STR("b=2")));
}

static void names_are_found_without_case_in_order(void **state UNUSED) {
    struct field room[8];
    struct fields f = FIELDS(room);
    add_all(&f);
    check_str(fields_value(&f, STR("content-TYPE")), "application/json");
    check_str(fields_value(&f, STR("SET-COOKIE")), "a=1");
    check(fields_find(&f, STR("set-cookie")) == &room[1]);
    check_int(fields_count(&f, STR("Set-Cookie")), 2);
    check_int(fields_count(&f, STR("nothing")), 0);
    check(fields_find(&f, STR("nothing")) == NULL);
    check(fields_value(&f, STR("nothing")).ptr == NULL);
}

static void a_full_array_refuses(void **state UNUSED) {
    struct field room[1];
    struct fields f = FIELDS(room);
    check_ok(fields_add(&f, STR("a"), STR("1")));
    check_err(fields_add(&f, STR("b"), STR("2")), ERR_FULL);
    check_int(f.n, 1);
    struct fields none = {0};
    check_err(fields_add(&none, STR("a"), STR("1")), ERR_FULL);
}

static void packing_and_unpacking_gives_the_same(void **state UNUSED) {
    struct field room[8];
    struct field other_room[8];
    struct fields f = FIELDS(room);
    struct fields other = FIELDS(other_room);
    add_all(&f);
    size_t size = fields_packed_size(&f);
    char *packed = malloc(size + 1);
    for (size_t shift = 0; shift < 2; shift++) { // an odd address, too
        other.n = 0;
        check(fields_pack(&f, packed + shift) == packed + shift + size);
        check(fields_unpack(&other, packed + shift) == packed + shift + size);
        check_int(other.n, f.n);
        for (unsigned i = 0; i < f.n; i++) {
            check(str_eq(other.v[i].name, f.v[i].name));
            check(str_eq(other.v[i].value, f.v[i].value));
        }
    }
    struct field small_room[3];
    struct fields small = FIELDS(small_room);
    check(fields_unpack(&small, packed + 1) == NULL);
    free(packed);
}

static void no_fields_pack_to_a_count(void **state UNUSED) {
    struct field room[1];
    struct fields f = FIELDS(room);
    char packed[4];
    check_int(fields_packed_size(&f), 4);
    check(fields_pack(&f, packed) == packed + 4);
    check(fields_unpack(&f, packed) == packed + 4);
    check_int(f.n, 0);
}

TESTS(TEST(names_are_found_without_case_in_order), TEST(a_full_array_refuses),
      TEST(packing_and_unpacking_gives_the_same), TEST(no_fields_pack_to_a_count))
