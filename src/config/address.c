// SPDX-License-Identifier: MIT
#include "config/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

enum { PORT_MAX = 65535, NAME_MAX_LEN = 253, LABEL_MAX_LEN = 63 };

struct endpoint {
    struct str host; // without brackets; empty when nothing was in front of the colon
    struct str port;
    bool has_port;
};

static bool is_digits(struct str s) {
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') {
            return false;
        }
    }
    return s.len > 0;
}

static bool in_set(char c, const char *set) { return c && strchr(set, c) != NULL; }

static bool is_word(char c) {
    char lower = ascii_lower(c);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9');
}

// inet_pton, for text without a terminator.
static bool numeric(int family, struct str s, void *address) {
    char text[INET6_ADDRSTRLEN];
    if (s.len == 0 || s.len >= sizeof text || memchr(s.ptr, '\0', s.len)) {
        return false;
    }
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    return inet_pton(family, text, address) == 1;
}

static bool is_ipv6(struct str s) {
    struct in6_addr address;
    return numeric(AF_INET6, s, &address);
}

static bool is_ipv4(struct str s) {
    struct in_addr address;
    return numeric(AF_INET, s, &address);
}

static const char *host_check(struct str name) {
    struct str rest = name;
    struct str label = {NULL, 0};
    if (name.len > NAME_MAX_LEN) {
        return "has a host name that is too long";
    }
    while (str_split(&rest, '.', &label)) {
        if (label.len == 0 || label.len > LABEL_MAX_LEN) {
            return "has a host name with an empty or too long part";
        }
        for (size_t i = 0; i < label.len; i++) {
            if (!is_word(label.ptr[i]) && label.ptr[i] != '-' && label.ptr[i] != '_') {
                return "has a host name with a character that names do not have";
            }
        }
    }
    // Resolvers read "0x7f.1" and "127.1" as addresses; a name that ends in a number is one or nothing.
    return is_digits(label) && !is_ipv4(name) ? "has no valid IPv4 address" : NULL;
}

static const char *endpoint_split(struct str text, struct endpoint *out) {
    *out = (struct endpoint){.host = text};
    size_t colon = str_find(text, ':');
    if (text.len && text.ptr[0] == '[') {
        size_t close = str_find(text, ']');
        out->host = str_skip(str_first(text, close), 1);
        if (close == text.len || !is_ipv6(out->host)) {
            return "has no IPv6 address between [ and ]";
        }
        colon = close + 1;
        if (colon < text.len && text.ptr[colon] != ':') {
            return "has something between ] and the port";
        }
    } else {
        out->host = str_first(text, colon);
    }
    if (colon < text.len) {
        out->port = str_skip(text, colon + 1);
        out->has_port = true;
    }
    if (str_find(out->port, ':') < out->port.len) {
        return "has more than one colon: an IPv6 address needs brackets, as in [::1]:8080";
    }
    bool bracketed = text.len && text.ptr[0] == '[';
    return bracketed || !out->host.len ? NULL : host_check(out->host);
}

static bool port_parse(struct str text, uint64_t least, uint16_t *port) {
    uint64_t value;
    if (parse_u64(text, &value) != OK || value < least || value > PORT_MAX) {
        return false;
    }
    *port = (uint16_t)value;
    return true;
}

// ---- Listeners -------------------------------------------------------------------------------------------

const char *listen_parse(struct str text, struct str *host, uint16_t *port) {
    struct endpoint endpoint;
    if (is_digits(text)) {
        *host = STR("127.0.0.1");
        return port_parse(text, 0, port) ? NULL : "needs a port from 0 to 65535";
    }
    if (str_starts(text, STR("*:"))) {
        text = str_skip(text, 1);
    }
    const char *why = endpoint_split(text, &endpoint);
    if (why) {
        return why;
    }
    if (!endpoint.has_port) {
        return "needs a port, as in 127.0.0.1:8080, [::1]:8080 or :8080";
    }
    *host = endpoint.host;
    return port_parse(endpoint.port, 0, port) ? NULL : "needs a port from 0 to 65535 after the colon";
}

enum err config_listen_parse(struct str listen, struct str *host, uint16_t *port) {
    return listen_parse(listen, host, port) ? ERR_INVALID : OK;
}

bool config_is_loopback(struct str host) {
    struct in_addr v4;
    struct in6_addr v6;
    if (numeric(AF_INET, host, &v4)) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    if (numeric(AF_INET6, host, &v6)) {
        return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
    }
    return str_ieq(host, STR("localhost"));
}

// ---- URLs ------------------------------------------------------------------------------------------------

static const char *characters_check(struct str text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c <= 0x20 || c == 0x7f) {
            return "must not contain blanks or control characters";
        }
        if (c >= 0x80) {
            return "must be plain ASCII: percent-encode the path, write the host in its xn-- form";
        }
        if (in_set((char)c, "\"<>\\^`{|}")) {
            return "contains a character that a URL does not have";
        }
    }
    return NULL;
}

const char *path_check(struct str path) {
    if (str_find(path, '?') < path.len) {
        return "must not have a query (?)";
    }
    if (str_find(path, '#') < path.len) {
        return "must not have a fragment (#)";
    }
    if (path.len && path.ptr[0] != '/') {
        return "must begin with /";
    }
    if (str_search(path, STR("//")) < path.len) {
        return "must not contain //";
    }
    return characters_check(path);
}

static bool scheme_split(struct str text, struct url *url, struct str *rest) {
    static const struct {
        const char *text;
        bool tls, h2;
    } schemes[] = {{"http://", false, false}, {"https://", true, false}, {"h2c://", false, true}};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        struct str scheme = str_c(schemes[i].text);
        if (str_ieq(str_first(text, scheme.len), scheme)) {
            url->tls = schemes[i].tls;
            url->h2 = schemes[i].h2;
            *rest = str_skip(text, scheme.len);
            return true;
        }
    }
    return false;
}

static const char *authority_parse(struct str text, struct url *url) {
    struct endpoint endpoint;
    if (str_find(text, '@') < text.len) {
        return "must not contain a user name or password: a key goes into `key`";
    }
    const char *why = endpoint_split(text, &endpoint);
    if (why) {
        return why;
    }
    if (!endpoint.host.len) {
        return "has no host";
    }
    url->host = endpoint.host;
    url->port = url->tls ? 443 : 80;
    return !endpoint.has_port || port_parse(endpoint.port, 1, &url->port)
               ? NULL
               : "needs a port from 1 to 65535 after the colon";
}

const char *url_parse(struct str text, struct url *url) {
    struct str rest;
    const char *why = characters_check(text);
    if (why) {
        return why;
    }
    *url = (struct url){0};
    if (!scheme_split(text, url, &rest)) {
        return "must begin with http://, https:// or h2c://";
    }
    size_t end = 0;
    while (end < rest.len && !in_set(rest.ptr[end], "/?#")) {
        end++;
    }
    why = authority_parse(str_first(rest, end), url);
    if (why) {
        return why;
    }
    url->base_path = str_skip(rest, end);
    while (str_ends(url->base_path, STR("/"))) {
        url->base_path.len--;
    }
    return path_check(url->base_path);
}

const char *url_parse_h1(struct str text, struct url *url) {
    const char *why = url_parse(text, url);
    return !why && url->h2 ? "must begin with http:// or https://" : why;
}

// Anything in front of ://, for pages that browsers do not load over HTTP have origins too.
static const char *origin_scheme_check(struct str scheme) {
    for (size_t i = 0; i < scheme.len; i++) {
        if (!is_word(scheme.ptr[i]) && (i == 0 || !in_set(scheme.ptr[i], "+-."))) {
            return "has a scheme with a character that schemes do not have";
        }
    }
    return scheme.len ? NULL : "needs a scheme in front of ://";
}

static bool is_usual_port(struct str scheme, struct str port) {
    return (str_eq(scheme, STR("http")) && str_eq(port, STR("80"))) ||
           (str_eq(scheme, STR("https")) && str_eq(port, STR("443")));
}

static const char *origin_parts_check(struct str scheme, struct str authority) {
    struct endpoint endpoint;
    uint16_t port;
    const char *why = origin_scheme_check(scheme);
    if (why || (why = endpoint_split(authority, &endpoint))) {
        return why;
    }
    if (!endpoint.host.len) {
        return "has no host";
    }
    if (endpoint.has_port && !port_parse(endpoint.port, 1, &port)) {
        return "needs a port from 1 to 65535 after the colon";
    }
    return endpoint.has_port && is_usual_port(scheme, endpoint.port)
               ? "must not name the usual port: browsers leave it out"
               : NULL;
}

const char *origin_check(struct str origin) {
    struct str mark = STR("://");
    size_t at = str_search(origin, mark);
    struct str authority = str_skip(origin, at + mark.len);
    if (str_eq(origin, STR("*"))) {
        return NULL;
    }
    const char *why = characters_check(origin);
    if (why) {
        return why;
    }
    if (at == origin.len) {
        return "must be an origin, as in https://app.example or http://localhost:3000, or *";
    }
    for (size_t i = 0; i < origin.len; i++) {
        if (ascii_lower(origin.ptr[i]) != origin.ptr[i]) {
            return "must be in lower case, as browsers write it";
        }
    }
    for (size_t i = 0; i < authority.len; i++) {
        if (in_set(authority.ptr[i], "/?#@")) {
            return "must end behind the host or port: an origin has no path, query or user";
        }
    }
    return origin_parts_check(str_first(origin, at), authority);
}

// ---- Names of entries ------------------------------------------------------------------------------------

const char *upstream_name_check(struct str name) {
    return str_find(name, '/') < name.len ? "must not contain a slash: models write upstream/model" : NULL;
}

const char *route_name_check(struct str name) {
    size_t star = str_find(name, '*');
    if (star + 1 < name.len) {
        return "must not have a * before its end";
    }
    return star == 0 ? "must begin with /" : path_check(str_first(name, star));
}

const char *recipe_name_check(struct str name) {
    return str_find(name, '*') < name.len ? "must not contain *: a recipe answers one path" : path_check(name);
}

// ---- Guesses ---------------------------------------------------------------------------------------------

const char *url_guess_scheme(struct str text) {
    struct endpoint endpoint;
    struct str host = str_first(text, str_find(text, '/'));
    if (characters_check(text) || str_search(text, STR("://")) < text.len || str_find(text, '?') < text.len ||
        str_find(text, '#') < text.len || str_find(text, '@') < text.len || endpoint_split(host, &endpoint) ||
        !endpoint.host.len) {
        return NULL;
    }
    bool local = config_is_loopback(endpoint.host) || is_ipv4(endpoint.host) || is_ipv6(endpoint.host);
    bool dotted = str_find(endpoint.host, '.') < endpoint.host.len;
    if (!local && !dotted && !endpoint.has_port) {
        return NULL; // one word: may be anything, even a key
    }
    bool tls = endpoint.has_port ? str_eq(endpoint.port, STR("443")) : !local;
    return tls ? "https://" : "http://";
}

struct str host_nickname(struct str host) {
    if (is_ipv4(host) || is_ipv6(host)) {
        return host;
    }
    static const char *const public[] = {"co", "com", "org", "net", "gov", "edu", "ac", "or", "ne", "go"};
    // From the right: the top level goes, and what only registers names under it ("co" of co.uk) too.
    struct str labels[NAME_MAX_LEN];
    struct str rest = host;
    size_t n = 0;
    while (n < ARRAY_LEN(labels) && str_split(&rest, '.', &labels[n])) {
        n++;
    }
    if (n < 2) {
        return host;
    }
    n--;
    for (size_t i = 0; i < ARRAY_LEN(public) && n > 1; i++) {
        if (str_ieq(labels[n - 1], str_c(public[i]))) {
            return labels[n - 2];
        }
    }
    return labels[n - 1];
}

const char *authority_format(bool tls, struct str host, uint16_t port, char out[AUTHORITY_TEXT]) {
    bool v6 = str_find(host, ':') < host.len;
    int n = snprintf(out, AUTHORITY_TEXT, "%s%.*s%s", v6 ? "[" : "", STR_ARG(host), v6 ? "]" : "");
    if (port != (tls ? 443 : 80)) {
        snprintf(out + n, AUTHORITY_TEXT - (size_t)n, ":%u", (unsigned)port);
    }
    return out;
}
