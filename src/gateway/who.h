// SPDX-License-Identifier: MIT
// Who may call. A client presents its key as `Authorization: Bearer`, `x-api-key` or `api-key`; wherever it stands it is
// read by one function and decided on once (facts A34). Keys are kept and compared as SHA-256, all of them, in constant
// time (A57).
#pragma once
#include "base/fields.h"
#include "config/config.h"
#include "net/digest.h"

struct who {
    struct digest *keys;
    unsigned count; // 0: everybody who reaches the listener
};

enum who_verdict { WHO_FINE, WHO_NOBODY, WHO_UNKNOWN, WHO_TWO };

void who_init(struct who *who, const struct config *config);
void who_finish(struct who *who);
// WHO_NOBODY: no credential; WHO_UNKNOWN: not one of the keys; WHO_TWO: two different ones. Where there are keys,
// *tenant becomes the digest of the one presented.
enum who_verdict who_check(const struct who *who, const struct fields *fields, struct digest *tenant);
// The digest of the credential presented, a key of ours or what goes on to the upstream; of nothing without any.
struct digest who_tenant(const struct fields *fields);
