// SPDX-License-Identifier: MIT
#include "net/digest.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

struct digest digest_sha256(struct str s) {
    struct digest d;
    SHA256((const unsigned char *)s.ptr, s.len, d.bytes);
    return d;
}

bool digest_equal(const struct digest *a, const struct digest *b) {
    return CRYPTO_memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void random_bytes(void *out, size_t n) {
    if (n > INT32_MAX || RAND_bytes(out, (int)n) != 1) {
        fprintf(stderr, "thaw: no random numbers to be had\n");
        abort();
    }
}
