// SPDX-License-Identifier: MIT
#include "net/digest.h"

#include "check.h"

static void check_hex(const unsigned char *bytes, size_t n, const char *wanted) {
    char hex[65] = "";
    for (size_t i = 0; i < n; i++) {
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    }
    check_str(str_c(hex), wanted);
}

// FIPS 180-4, as NIST's examples have them.
static void sha256_is_the_standards(void **state UNUSED) {
    static const struct {
        const char *text, *digest;
    } rows[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct digest d = digest_sha256(str_c(rows[i].text));
        check_hex(d.bytes, sizeof d.bytes, rows[i].digest);
    }
}

static struct digest of(const char *a, const char *b, const char *c) {
    struct str parts[] = {str_c(a), str_c(b), str_c(c)};
    return digest_parts(parts, ARRAY_LEN(parts));
}

static void parts_are_not_mistaken_for_others(void **state UNUSED) {
    const struct digest d[] = {of("ab", "c", ""), of("a", "bc", ""),     of("abc", "", ""),
                               of("", "abc", ""), of("", "", "abc"),     of("a", "b", "c"),
                               of("", "", ""),    digest_parts(NULL, 0), digest_sha256(STR("abc"))};
    for (size_t i = 0; i < ARRAY_LEN(d); i++) {
        for (size_t j = 0; j < ARRAY_LEN(d); j++) {
            check_int(digest_equal(&d[i], &d[j]), i == j);
        }
    }
    // Another count of the same parts is something else, too, and a part may hold what looks like a length.
    struct str one[] = {STR("abc")};
    struct str padded[] = {STR("abc"), {NULL, 0}};
    struct str looks[] = {STR("a\1\0\0\0\0\0\0\0b")};
    struct str two[] = {STR("a"), STR("b")};
    struct digest a = digest_parts(one, 1);
    struct digest b = digest_parts(padded, 2);
    check(!digest_equal(&a, &b));
    a = digest_parts(looks, 1);
    b = digest_parts(two, 2);
    check(!digest_equal(&a, &b));
    b = digest_parts(looks, 1);
    check(digest_equal(&a, &b));
}

static void equal_looks_at_every_byte(void **state UNUSED) {
    struct digest a = digest_sha256(STR("x"));
    for (size_t i = 0; i < sizeof a.bytes; i++) {
        struct digest b = a;
        b.bytes[i] ^= 1;
        check(!digest_equal(&a, &b));
        b.bytes[i] ^= 1;
        check(digest_equal(&a, &b));
    }
}

// FIPS 197 appendix B and C.1.
static void aes_is_the_standards(void **state UNUSED) {
    static const struct {
        unsigned char key[CIPHER_BLOCK], plain[CIPHER_BLOCK];
        const char *cipher;
    } rows[] = {
        {{0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c},
         {0x32, 0x43, 0xf6, 0xa8, 0x88, 0x5a, 0x30, 0x8d, 0x31, 0x31, 0x98, 0xa2, 0xe0, 0x37, 0x07, 0x34},
         "3925841d02dc09fbdc118597196a0b32"},
        {{0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f},
         {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff},
         "69c4e0d86a7b0430d8cdb78070b4c55a"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cipher *c = cipher_create(rows[i].key);
        for (int again = 0; again < 3; again++) { // no block depends on the one before
            unsigned char block[CIPHER_BLOCK], back[CIPHER_BLOCK];
            cipher_encrypt(c, rows[i].plain, block);
            check_hex(block, sizeof block, rows[i].cipher);
            cipher_decrypt(c, block, back);
            check(memcmp(back, rows[i].plain, sizeof back) == 0);
        }
        cipher_destroy(c);
    }
    cipher_destroy(NULL);
}

static void two_ciphers_of_one_key_read_each_other(void **state UNUSED) {
    unsigned char key[CIPHER_BLOCK], plain[CIPHER_BLOCK], block[CIPHER_BLOCK], back[CIPHER_BLOCK];
    random_bytes(key, sizeof key);
    struct cipher *a = cipher_create(key);
    struct cipher *b = cipher_create(key);
    key[0] ^= 1;
    struct cipher *other = cipher_create(key);
    for (int i = 0; i < 100; i++) {
        random_bytes(plain, sizeof plain);
        cipher_encrypt(a, plain, block);
        cipher_decrypt(b, block, back);
        check(memcmp(plain, back, sizeof plain) == 0);
        cipher_decrypt(other, block, back);
        check(memcmp(plain, back, sizeof plain) != 0);
    }
    cipher_destroy(a);
    cipher_destroy(b);
    cipher_destroy(other);
}

static void random_bytes_differ(void **state UNUSED) {
    unsigned char seen[50][16];
    for (size_t i = 0; i < ARRAY_LEN(seen); i++) {
        random_bytes(seen[i], sizeof seen[i]);
        for (size_t j = 0; j < i; j++) {
            check(memcmp(seen[i], seen[j], sizeof seen[i]) != 0);
        }
    }
}

TESTS(TEST(sha256_is_the_standards), TEST(parts_are_not_mistaken_for_others), TEST(equal_looks_at_every_byte),
      TEST(aes_is_the_standards), TEST(two_ciphers_of_one_key_read_each_other), TEST(random_bytes_differ))
