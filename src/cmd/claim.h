// SPDX-License-Identifier: MIT
// From `--listen` as written to an address that can be had.
#pragma once
#include "net/conn.h"

// Resolves and claims it; `listen` has been checked (config_listen_parse). EXIT_FINE, or it was said on stderr why not:
// EXIT_USAGE for a name that nobody knows, EXIT_UNREACHABLE for an address that is not to be had.
// `option` is the one that takes another address.
int claim_address(const char *verb, const char *option, struct str listen, struct address *address);
