// SPDX-License-Identifier: MIT
#include "base/fields.h"

#include "check.h"

static void add_all(struct fields *f) {
    check_ok(fields_add(f, STR("Content-Type"), STR("application/json")));
    check_ok(fields_add(f, STR("Via"), STR("a=1")));
    check_ok(fields_add(f, STR("X-Empty"), (struct str){NULL, 0}));
    check_ok(fields_add(f, STR("via"), STR("b=2")));
}

static void names_are_found_without_case_in_order(void **state UNUSED) {
    struct field room[8];
    struct fields f = FIELDS(room);
    add_all(&f);
    check_str(fields_value(&f, FIELD_CONTENT_TYPE), "application/json");
    check_str(fields_value(&f, FIELD_VIA), "a=1");
    check(fields_find(&f, FIELD_VIA) == &room[1]);
    check_int(fields_count(&f, FIELD_VIA), 2);
    check_int(fields_count(&f, FIELD_HOST), 0);
    check(fields_find(&f, FIELD_HOST) == NULL);
    check(fields_value(&f, FIELD_HOST).ptr == NULL);
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

static void names_are_known_by_their_ids(void **state UNUSED) {
    check_int(field_name(FIELD_OTHER).len, 0);
    for (int id = FIELD_OTHER + 1; id < FIELD_COUNT; id++) {
        struct str name = field_name((enum field_id)id);
        check_int(field_id(name), id);
        for (size_t i = 0; i < name.len; i++) {
            check(ascii_lower(name.ptr[i]) == name.ptr[i]);
        }
    }
}

static void no_fields_pack_and_unpack(void **state UNUSED) {
    struct field room[1];
    struct fields f = FIELDS(room);
    char packed[16];
    size_t size = fields_packed_size(&f);
    check(size > 0 && size <= sizeof packed);
    check(fields_pack(&f, packed) == packed + size);
    check(fields_unpack(&f, packed) == packed + size);
    check_int(f.n, 0);
}

// Around every width that a length may be written in.
static void lengths_of_every_width_pack(void **state UNUSED) {
    static const size_t lengths[] = {0, 1, 126, 127, 128, 129, 253, 254, 255, 256, 257, 65535, 65536, 100000};
    static char bytes[100000];
    memset(bytes, 'x', sizeof bytes);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct field room[2];
        struct fields f = FIELDS(room);
        check_ok(fields_add(&f, str_from(bytes, lengths[i]), STR("v")));
        check_ok(fields_add(&f, STR("n"), str_from(bytes, lengths[i])));
        size_t size = fields_packed_size(&f);
        char *packed = malloc(size);
        check(fields_pack(&f, packed) == packed + size);
        f.n = 0;
        check(fields_unpack(&f, packed) == packed + size);
        check_int(f.n, 2);
        check_int(f.v[0].name.len, lengths[i]);
        check_int(f.v[1].value.len, lengths[i]);
        check_str(f.v[0].value, "v");
        check_str(f.v[1].name, "n");
        free(packed);
    }
}

static void counts_of_every_width_pack(void **state UNUSED) {
    enum { MANY = 300 };
    static struct field room[MANY];
    static struct field other_room[MANY];
    for (unsigned n = 250; n <= MANY; n++) {
        struct fields f = FIELDS(room);
        struct fields other = FIELDS(other_room);
        for (unsigned i = 0; i < n; i++) {
            check_ok(fields_add(&f, STR("name"), STR("value")));
        }
        size_t size = fields_packed_size(&f);
        char *packed = malloc(size);
        check(fields_pack(&f, packed) == packed + size);
        check(fields_unpack(&other, packed) == packed + size);
        check_int(other.n, n);
        free(packed);
    }
}

static void every_known_name_has_its_id_in_any_case(void **state UNUSED) {
    static const struct {
        const char *name;
        enum field_id id;
        unsigned flags;
    } known[] = {
#define FIELD(id, text, flags) {text, FIELD_##id, flags},
#include "base/fields.def"
#undef FIELD
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        char upper[64];
        struct str name = str_c(known[i].name);
        for (size_t j = 0; j < name.len; j++) {
            upper[j] = (char)(name.ptr[j] >= 'a' && name.ptr[j] <= 'z' ? name.ptr[j] - 32 : name.ptr[j]);
        }
        check_int(field_id(name), known[i].id); // also fails where the table is not sorted by length
        check_int(field_id(str_from(upper, name.len)), known[i].id);
        check_int(field_flags(known[i].id), known[i].flags);
        upper[0] = '#';
        check_int(field_id(str_from(upper, name.len)), FIELD_OTHER);
        check_int(field_id(str_from(name.ptr, name.len - 1)) == known[i].id, 0);
    }
    check_int(field_id(STR("")), FIELD_OTHER);
}

static void fields_of_a_name_or_a_kind_are_taken_out(void **state UNUSED) {
    struct field room[8];
    struct fields f = FIELDS(room);
    check_ok(fields_add(&f, STR("Connection"), STR("close")));
    check_ok(fields_add(&f, STR("Accept"), STR("*/*")));
    check_ok(fields_add(&f, STR("TE"), STR("trailers")));
    check_ok(fields_add(&f, STR("Authorization"), STR("Bearer x")));
    check_ok(fields_push(&f, &room[1]));
    fields_remove_flagged(&f, FIELD_HOP);
    check_int(f.n, 3);
    fields_remove(&f, FIELD_AUTHORIZATION);
    check_int(f.n, 2);
    check_str(f.v[0].name, "Accept");
    check_str(f.v[1].name, "Accept");
}

TESTS(TEST(names_are_known_by_their_ids), TEST(every_known_name_has_its_id_in_any_case),
      TEST(fields_of_a_name_or_a_kind_are_taken_out), TEST(names_are_found_without_case_in_order),
      TEST(a_full_array_refuses), TEST(packing_and_unpacking_gives_the_same), TEST(no_fields_pack_and_unpack),
      TEST(lengths_of_every_width_pack), TEST(counts_of_every_width_pack))
