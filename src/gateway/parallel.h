// SPDX-License-Identifier: MIT
// POST /parallel: several calls in one request, their results in one answer.
#pragma once
#include "gateway/request.h"

// As a route's `look`: what is asked for becomes r->gather. Answers 400, 404, 413, 422 itself.
enum verdict parallel_look(struct request *r);
