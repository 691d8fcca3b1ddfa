// SPDX-License-Identifier: MIT
// Templates are read twice: to count the parts, then to write them down.
#include "config/template.h"

static bool is_name_char(char c, bool first) {
    char lower = ascii_lower(c);
    bool letter = (lower >= 'a' && lower <= 'z') || c == '_';
    return letter || (!first && ((c >= '0' && c <= '9') || c == '.' || c == '-'));
}

// The name in "{{ name }}..." at the start of s, empty if there is none; *len is how much of s it takes up.
static struct str place_name(struct str s, size_t *len) {
    struct str inside = str_skip(s, 2);
    size_t close = str_search(inside, STR("}}"));
    struct str name = str_trim(str_first(inside, close));
    bool good = close < inside.len;
    for (size_t i = 0; good && i < name.len; i++) {
        good = is_name_char(name.ptr[i], i == 0);
    }
    *len = close + 4;
    return good ? name : str_first(name, 0);
}

// Takes the next part off the front; false when it begins with a {{ that is neither a place nor {{{{.
static bool take_part(struct str *rest, struct template_part *part) {
    size_t open = str_search(*rest, STR("{{"));
    size_t used = open;
    *part = (struct template_part){.text = str_first(*rest, open)};
    if (str_starts(str_skip(*rest, open), STR("{{{{"))) { // half of it is text, the other half goes
        part->text = str_first(*rest, open + 2);
        used = open + 4;
    } else if (open == 0) {
        *part = (struct template_part){.is_name = true, .text = place_name(*rest, &used)};
    }
    if (!part->text.len) {
        return false;
    }
    *rest = str_skip(*rest, used);
    return true;
}

enum err template_parse(struct str text, struct arena *arena, struct template *template, size_t *at) {
    struct template_part part;
    unsigned n = 0;
    for (struct str rest = text; rest.len; n++) {
        if (!take_part(&rest, &part)) {
            *at = text.len - rest.len;
            return ERR_INVALID;
        }
    }
    struct template_part *parts = arena_alloc(arena, n * sizeof *parts);
    if (!parts) {
        return ERR_NOMEM;
    }
    *template = (struct template){.parts = parts, .n = n};
    for (struct str rest = text; n && take_part(&rest, parts); n--) {
        parts++;
    }
    return OK;
}
