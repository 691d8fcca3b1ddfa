// SPDX-License-Identifier: MIT
// Pages of other origins (CORS: WHATWG Fetch, section 3.3): which may call is `cors` in the configuration.
#pragma once
#include "gateway/request.h"

// The step: finds the page's origin among the allowed ones; a preflight is answered here. 403 for what a page of another
// one sends without having asked for leave.
enum verdict origin_step(struct request *r);
// To the head of every answer to such a page.
void origin_add_fields(struct request *r, struct fields *fields);
