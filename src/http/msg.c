// SPDX-License-Identifier: MIT
#include "http/msg.h"

static const char *const methods[] = {
    [METHOD_OTHER] = "",          [METHOD_GET] = "GET",       [METHOD_HEAD] = "HEAD",   [METHOD_POST] = "POST",
    [METHOD_PUT] = "PUT",         [METHOD_DELETE] = "DELETE", [METHOD_PATCH] = "PATCH", [METHOD_OPTIONS] = "OPTIONS",
    [METHOD_CONNECT] = "CONNECT", [METHOD_TRACE] = "TRACE",
};

enum method method_parse(struct str name) {
    for (unsigned m = METHOD_GET; m < ARRAY_LEN(methods); m++) {
        if (str_eq(name, str_c(methods[m]))) {
            return (enum method)m;
        }
    }
    return METHOD_OTHER;
}

const char *method_name(enum method m) { return methods[m]; }

bool method_registered(enum method m, struct str name) {
    static const struct str others[] = {
        STR_INIT("ACL"),
        STR_INIT("BASELINE-CONTROL"),
        STR_INIT("BIND"),
        STR_INIT("CHECKIN"),
        STR_INIT("CHECKOUT"),
        STR_INIT("COPY"),
        STR_INIT("LABEL"),
        STR_INIT("LINK"),
        STR_INIT("LOCK"),
        STR_INIT("MERGE"),
        STR_INIT("MKACTIVITY"),
        STR_INIT("MKCALENDAR"),
        STR_INIT("MKCOL"),
        STR_INIT("MKREDIRECTREF"),
        STR_INIT("MKWORKSPACE"),
        STR_INIT("MOVE"),
        STR_INIT("ORDERPATCH"),
        STR_INIT("PROPFIND"),
        STR_INIT("PROPPATCH"),
        STR_INIT("QUERY"),
        STR_INIT("REBIND"),
        STR_INIT("REPORT"),
        STR_INIT("SEARCH"),
        STR_INIT("UNBIND"),
        STR_INIT("UNCHECKOUT"),
        STR_INIT("UNLINK"),
        STR_INIT("UNLOCK"),
        STR_INIT("UPDATE"),
        STR_INIT("UPDATEREDIRECTREF"),
        STR_INIT("VERSION-CONTROL"),
    };
    bool found = m != METHOD_OTHER;
    for (size_t i = 0; !found && i < ARRAY_LEN(others); i++) {
        found = str_eq(name, others[i]);
    }
    return found;
}

// RFC 9110 section 15 and the IANA registry, as far as an API uses them.
static const struct {
    int status;
    const char *reason;
} reasons[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {102, "Processing"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
};

const char *status_reason(int status) {
    if (LIKELY(status == 200)) {
        return "OK";
    }
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Unknown"; // the phrase carries no meaning (RFC 9112 section 4)
}

bool method_has_body(enum method m) {
    return m == METHOD_POST || m == METHOD_PUT || m == METHOD_PATCH || m == METHOD_OTHER;
}

bool target_valid(struct str t) {
    for (size_t i = 0; i < t.len; i++) {
        unsigned char c = (unsigned char)t.ptr[i];
        if (c <= 0x20 || c >= 0x7f || c == '#') {
            return false;
        }
    }
    return t.len > 0;
}

bool list_has_token(struct str list, struct str token) {
    struct str part;
    while (str_split(&list, ',', &part)) {
        if (str_ieq(str_trim(part), token)) {
            return true;
        }
    }
    return false;
}

static bool named_by_connection(const struct fields *fields, struct str name) {
    for (unsigned i = 0; i < fields->n; i++) {
        if (fields->v[i].id == FIELD_CONNECTION && list_has_token(fields->v[i].value, name)) {
            return true;
        }
    }
    return false;
}

// Does a Connection field say more than "close" or "keep-alive"?
static bool connection_names_fields(const struct fields *fields) {
    for (unsigned i = 0; i < fields->n; i++) {
        struct str value = fields->v[i].value;
        if (fields->v[i].id == FIELD_CONNECTION && !str_ieq(value, STR("keep-alive")) &&
            !str_ieq(value, STR("close"))) {
            return true;
        }
    }
    return false;
}

// Fields that decide who the caller is are replaced afterwards: a client gains nothing by naming them here.
static void strip_named_by_connection(struct fields *fields) {
    unsigned kept = 0;
    for (unsigned i = 0; i < fields->n; i++) {
        struct str name = fields->v[i].name;
        if (fields->v[i].id == FIELD_CONNECTION || !named_by_connection(fields, name)) {
            fields->v[kept++] = fields->v[i];
        }
    }
    fields->n = kept;
}

void http_head_strip(struct fields *fields) {
    if (connection_names_fields(fields)) {
        strip_named_by_connection(fields);
    }
    fields_remove_flagged(fields, FIELD_HOP);
}

// reg-name or IPv4 of RFC 3986 without percent-encoding, or an IPv6 literal; then an optional port.
bool authority_valid(struct str authority) {
    size_t i = 0;
    if (authority.len == 0) {
        return false;
    }
    if (authority.ptr[0] == '[') {
        for (i = 1; i < authority.len && authority.ptr[i] != ']'; i++) {
            if (hex_value(authority.ptr[i]) < 0 && authority.ptr[i] != ':' && authority.ptr[i] != '.') {
                return false;
            }
        }
        if (i == authority.len || i < 3) { // "[::]" is the shortest
            return false;
        }
        i++;
    } else {
        for (; i < authority.len && authority.ptr[i] != ':'; i++) {
            char c = ascii_lower(authority.ptr[i]);
            if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_')) {
                return false;
            }
        }
    }
    if (i == authority.len) {
        return i > 0;
    }
    if (authority.ptr[i] != ':' || i == 0) {
        return false;
    }
    uint64_t port = 0;
    struct str digits = str_skip(authority, i + 1);
    return digits.len == 0 || (parse_u64(digits, &port) == OK && port <= 65535);
}

bool http_is_event_stream(const struct fields *fields) {
    struct str wanted = STR("text/event-stream");
    return str_ieq(str_first(fields_value(fields, FIELD_CONTENT_TYPE), wanted.len), wanted);
}
