// SPDX-License-Identifier: MIT
// Certificates made while a test runs: an authority and what it signs, as PEM files in a directory of their
// own under TMPDIR. Keys are P-256: made in no time.
#pragma once
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "check.h"

enum { CERT_PATH = 128 };

struct cert {
    X509 *x509;
    EVP_PKEY *key;
    char cert_file[CERT_PATH];
    char key_file[CERT_PATH];
};

struct cert_options {
    const char *name;          // common name, and part of the file names
    const char *alt_names;     // "DNS:a.example,IP:127.0.0.1"; NULL: none
    const struct cert *issuer; // NULL: self-signed
    bool authority;
    long from_s; // validity, from now; both 0: an hour either way
    long to_s;
};

static inline void cert_extension(X509 *x509, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    check(extension && X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static inline void cert_write(struct cert *c, const char *dir, const char *name) {
    snprintf(c->cert_file, sizeof c->cert_file, "%s/%s.pem", dir, name);
    snprintf(c->key_file, sizeof c->key_file, "%s/%s.key", dir, name);
    FILE *f = fopen(c->cert_file, "w");
    check(f && PEM_write_X509(f, c->x509) == 1 && fclose(f) == 0);
    f = fopen(c->key_file, "w");
    check(f && fchmod(fileno(f), S_IRUSR | S_IWUSR) == 0);
    check(f && PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(f) == 0);
}

static inline void cert_make(struct cert *c, const char *dir, const struct cert_options *o) {
    static long serial;
    X509 *issuer = o->issuer ? o->issuer->x509 : NULL;
    *c = (struct cert){.x509 = X509_new(), .key = EVP_EC_gen("P-256")};
    check(c->x509 && c->key);
    X509_set_version(c->x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(c->x509), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(c->x509), o->from_s || o->to_s ? o->from_s : -3600);
    X509_gmtime_adj(X509_getm_notAfter(c->x509), o->from_s || o->to_s ? o->to_s : 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(c->x509), "CN", MBSTRING_ASC, (const unsigned char *)o->name, -1,
                               -1, 0);
    X509_set_issuer_name(c->x509, X509_get_subject_name(issuer ? issuer : c->x509));
    X509_set_pubkey(c->x509, c->key);
    cert_extension(c->x509, issuer ? issuer : c->x509, NID_basic_constraints,
                   o->authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (o->alt_names) {
        cert_extension(c->x509, issuer ? issuer : c->x509, NID_subject_alt_name, o->alt_names);
    }
    check(X509_sign(c->x509, o->issuer ? o->issuer->key : c->key, EVP_sha256()) > 0);
    cert_write(c, dir, o->name);
}

static inline void cert_finish(struct cert *c) {
    unlink(c->cert_file);
    unlink(c->key_file);
    X509_free(c->x509);
    EVP_PKEY_free(c->key);
    *c = (struct cert){0};
}

// A new directory for them; removed with rmdir when the certificates are.
static inline void cert_dir(char dir[CERT_PATH]) {
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, CERT_PATH, "%s/thaw-certs-XXXXXX", tmp ? tmp : "/tmp");
    check(mkdtemp(dir) != NULL);
}
