// SPDX-License-Identifier: MIT
// What an answer says: the echo, up to a stop sequence; or JSON of the format that was asked for; or a tool call.
// Documents are made from their JSON schema, with no more than it requires: required members, the first of an enum,
// the smallest number. What is echoed is the first string that the schema leaves open. Not looked at: `pattern`,
// `not`, `if`, and of an `allOf` all but the first.
#pragma once
#include "mock/ask.h"

// `tool`: the tool to call if one is offered (ptr == NULL: none, unless tool_choice forces one; "any": the first).
// Replaces ask->text. False: ask->problem says why, for a 400.
MUSTCHECK bool shape_content(struct ask *ask, struct str tool);
