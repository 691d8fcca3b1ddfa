// SPDX-License-Identifier: MIT
#include "admit/gate.h"
