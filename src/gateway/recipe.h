// SPDX-License-Identifier: MIT
// Recipes: paths of the configuration that are prompts to be filled in, and /chat, which is there without one.
#pragma once
#include "gateway/request.h"

// As a route's `look`: the prompts become r->gather. Answers 400, 404, 413, 422 itself.
enum verdict recipe_look(struct request *r);
