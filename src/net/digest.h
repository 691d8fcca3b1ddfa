// SPDX-License-Identifier: MIT
// The little cryptography beside TLS, by OpenSSL: credentials are compared as hashes in
// constant time, ids cannot be guessed.
#pragma once
#include <stdbool.h>

#include "base/str.h"

struct digest {
    unsigned char bytes[32];
};

// SHA-256 (FIPS 180-4).
struct digest digest_sha256(struct str s);
// Of several parts, each with its length before it: ("ab", "c") and ("a", "bc") differ.
struct digest digest_parts(const struct str *parts, unsigned count);
// Takes the same time whatever the contents.
bool digest_equal(const struct digest *a, const struct digest *b);
// From the operating system's generator by way of OpenSSL's; aborts if there is none.
void random_bytes(void *out, size_t n);

// A keyed permutation of 16-byte blocks (AES-128, FIPS 197): numbers become what cannot be guessed, and come back. One
// thread's own; several may be made with the same key.
enum { CIPHER_BLOCK = 16 };
struct cipher;
struct cipher *cipher_create(const unsigned char key[CIPHER_BLOCK]);
void cipher_destroy(struct cipher *c);
void cipher_encrypt(struct cipher *c, const unsigned char in[CIPHER_BLOCK], unsigned char out[CIPHER_BLOCK]);
void cipher_decrypt(struct cipher *c, const unsigned char in[CIPHER_BLOCK], unsigned char out[CIPHER_BLOCK]);
