// SPDX-License-Identifier: MIT
#include "cmd/key.h"

#include "base/log.h"
#include "config/config.h"

static bool is_plain_remote(const char *url) {
    struct str rest = str_c(url);
    struct str host;
    if (!str_starts(rest, STR("http://"))) {
        return false;
    }
    rest = str_skip(rest, 7);
    host = str_first(rest, MIN(str_find(rest, '/'), rest.len));
    if (host.len && host.ptr[0] == '[') {
        host = str_first(str_skip(host, 1), str_find(str_skip(host, 1), ']'));
    } else {
        host = str_first(host, str_find(host, ':'));
    }
    return !config_is_loopback(host);
}

struct str environment_key(const char *url) {
    const char *key = getenv("OPENAI_API_KEY");
    if (key && *key && is_plain_remote(url)) {
        log_warning("OPENAI_API_KEY is not sent to %s: the way there is not encrypted. To insist, set the key of that "
                    "upstream in a configuration file",
                    url);
        return STR("");
    }
    return str_c(key ? key : "");
}
