// SPDX-License-Identifier: MIT
// Who may call. A client presents its key as `Authorization: Bearer`, `x-api-key` or `api-key`; wherever it stands it is
// read by one function and decided on once (facts A34). Keys are kept and compared as SHA-256, all of them, in constant
// time (A57); which client a key belongs to comes of the same pass.
#pragma once
#include "base/fields.h"
#include "config/config.h"
#include "net/digest.h"

struct who {
    struct digest *keys;
    unsigned *owners; // of each key: 1 + the index in config.clients; 0: it is one of config.keys
    unsigned count;   // 0: everybody who reaches the listener
};

enum { WHO_NO_CLIENT = -1 };
struct who_found {
    struct digest tenant; // of what was presented; zeroes where there are no keys
    int client;           // index in config.clients, or WHO_NO_CLIENT
};

enum who_verdict { WHO_FINE, WHO_NOBODY, WHO_UNKNOWN, WHO_TWO };

void who_init(struct who *who, const struct config *config);
void who_finish(struct who *who);
// WHO_NOBODY: no credential; WHO_UNKNOWN: not one of the keys; WHO_TWO: two different ones. Where there are keys
// *found says whose the presented one is.
enum who_verdict who_check(const struct who *who, const struct fields *fields, struct who_found *found);
// The digest of the credential presented, a key of ours or what goes on to the upstream; of nothing without any.
struct digest who_tenant(const struct fields *fields);
