// SPDX-License-Identifier: MIT
// Values that a request gives by name: in a JSON object, a form or a query string. Names that are not asked for are
// passed over.
#pragma once
#include "base/arena.h"

enum value_source { VALUE_NONE, VALUE_QUERY, VALUE_BODY };

struct value {
    struct str name;         // as set by the caller
    struct str text;         // in the arena
    enum value_source given; // NONE: not there (or null)
};

// The value of that name, NULL where the list has none.
struct value *values_find(struct value *values, size_t n, struct str name);

// Out of name=value pairs; of several with one name the first counts. What the body gives counts more than what the
// query does. ERR_FULL: of the arena; ERR_NOMEM.
MUSTCHECK enum err values_from_form(struct value *values, size_t n, struct str text, enum value_source source,
                                    struct arena *arena);
// Out of the members of an object: strings as they are, anything else as its JSON text. ERR_INVALID: not JSON;
// ERR_FRAMING: no object; ERR_FULL, ERR_NOMEM; ERR_AGAIN: *twice is there twice.
MUSTCHECK enum err values_from_json(struct value *values, size_t n, struct str text, struct arena *arena,
                                    struct str *twice);
