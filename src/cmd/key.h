// SPDX-License-Identifier: MIT
// The upstream's key in the environment.
#pragma once
#include "base/str.h"

// OPENAI_API_KEY as it may go to that URL: where the SDKs would send it with their base URL set, but never in the clear
// over a network (that is said on stderr). Empty: none. Valid as long as the environment is.
struct str environment_key(const char *url);
