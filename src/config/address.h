// SPDX-License-Identifier: MIT
// Addresses as people write them: upstream URLs and HOST:PORT. Nothing is resolved here. Functions that say
// why return NULL when all is well, else the rest of a sentence that begins with the key's name ("must ...",
// "needs
// ..."). It never contains what was written: a URL is where passwords turn up.
#pragma once
#include "config/config.h"

struct url {
    bool tls;
    bool h2;         // h2c://: HTTP/2 without TLS, known beforehand
    struct str host; // a name, or an address without brackets
    uint16_t port;
    struct str base_path; // begins with / or is empty, no / at its end
};

const char *url_parse(struct str text, struct url *url);
// For what speaks HTTP/1 alone.
const char *url_parse_h1(struct str text, struct url *url);
// What Host says: the port only where it is not the usual one. Returns `out`.
enum { AUTHORITY_TEXT = 300 };
const char *authority_format(bool tls, struct str host, uint16_t port, char out[AUTHORITY_TEXT]);
const char *listen_parse(struct str text, struct str *host, uint16_t *port);
// What a path in front of others may look like: begins with /, or is empty.
const char *path_check(struct str path);
// Where a web page comes from, as browsers write it in `Origin`: "https://app.example", "http://localhost:3000";
// or "*".
const char *origin_check(struct str origin);
// Names of entries: an upstream; a path of clients, which may end in *; a recipe's path.
const char *upstream_name_check(struct str name);
const char *route_name_check(struct str name);
const char *recipe_name_check(struct str name);
// The URL that somebody who left the scheme out will have meant, without its end; NULL when that is anybody's
// guess. "localhost:11434/v1" -> "http://"
const char *url_guess_scheme(struct str text);
// The part of a host that tells it from others: "api.openai.com" -> "openai".
struct str host_nickname(struct str host);
