// SPDX-License-Identifier: MIT
#include "net/digest.h"

#include "base/mem.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

struct digest digest_sha256(struct str s) {
    struct digest d;
    SHA256((const unsigned char *)s.ptr, s.len, d.bytes);
    return d;
}

struct digest digest_parts(const struct str *parts, unsigned count) {
    struct digest d;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool fine = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    for (unsigned i = 0; fine && i < count; i++) {
        uint64_t len = parts[i].len;
        fine = EVP_DigestUpdate(context, &len, sizeof len) == 1 &&
               EVP_DigestUpdate(context, parts[i].ptr, parts[i].len) == 1;
    }
    if (!fine || EVP_DigestFinal_ex(context, d.bytes, NULL) != 1) {
        fprintf(stderr, "thaw: SHA-256 is not to be had from OpenSSL\n");
        abort();
    }
    EVP_MD_CTX_free(context);
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

struct cipher {
    EVP_CIPHER_CTX *encrypt, *decrypt;
};

struct cipher *cipher_create(const unsigned char key[CIPHER_BLOCK]) {
    struct cipher *c = xcalloc(1, sizeof *c);
    c->encrypt = EVP_CIPHER_CTX_new();
    c->decrypt = EVP_CIPHER_CTX_new();
    if (!c->encrypt || !c->decrypt || EVP_EncryptInit_ex(c->encrypt, EVP_aes_128_ecb(), NULL, key, NULL) != 1 ||
        EVP_DecryptInit_ex(c->decrypt, EVP_aes_128_ecb(), NULL, key, NULL) != 1) {
        fprintf(stderr, "thaw: AES-128 is not to be had from OpenSSL\n");
        abort();
    }
    EVP_CIPHER_CTX_set_padding(c->encrypt, 0);
    EVP_CIPHER_CTX_set_padding(c->decrypt, 0);
    return c;
}

void cipher_destroy(struct cipher *c) {
    if (c) {
        EVP_CIPHER_CTX_free(c->encrypt);
        EVP_CIPHER_CTX_free(c->decrypt);
        free(c);
    }
}

static void run(EVP_CIPHER_CTX *context, const unsigned char *in, unsigned char *out) {
    int n = 0;
    if (EVP_CipherUpdate(context, out, &n, in, CIPHER_BLOCK) != 1 || n != CIPHER_BLOCK) {
        abort(); // a whole block, no padding: there is nothing that could fail
    }
}

void cipher_encrypt(struct cipher *c, const unsigned char in[CIPHER_BLOCK], unsigned char out[CIPHER_BLOCK]) {
    run(c->encrypt, in, out);
}

void cipher_decrypt(struct cipher *c, const unsigned char in[CIPHER_BLOCK], unsigned char out[CIPHER_BLOCK]) {
    run(c->decrypt, in, out);
}
