// SPDX-License-Identifier: MIT
// The little cryptography beside TLS, by OpenSSL: credentials are compared as hashes in constant time.
#pragma once
#include <stdbool.h>

#include "base/str.h"

struct digest {
    unsigned char bytes[32];
};

// SHA-256 (FIPS 180-4).
struct digest digest_sha256(struct str s);
// Takes the same time whatever the contents.
bool digest_equal(const struct digest *a, const struct digest *b);
// From the operating system's generator by way of OpenSSL's; aborts if there is none.
void random_bytes(void *out, size_t n);
