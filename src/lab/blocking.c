// SPDX-License-Identifier: MIT
#include "lab/blocking.h"

#include <curl/curl.h>
#include <dlfcn.h>

#include "base/mem.h"

static const char LIBRARY[] = "libcurl.so.4"; // the OpenSSL one of Debian 12 and 13

// The functions that are used, by their names in the library.
#define FUNCTIONS(F)                                                                                                   \
    F(global_init)                                                                                                     \
    F(global_cleanup)                                                                                                  \
    F(easy_init)                                                                                                       \
    F(easy_cleanup) F(easy_setopt) F(easy_perform) F(easy_getinfo) F(easy_strerror) F(slist_append) F(slist_free_all)

struct blocking {
    void *library;
#define MEMBER(name) __typeof__(curl_##name) *name;
    FUNCTIONS(MEMBER)
#undef MEMBER
};

static const struct {
    CURLcode code;
    enum err e;
} reasons[] = {
    {CURLE_COULDNT_RESOLVE_HOST, ERR_DNS},
    {CURLE_COULDNT_CONNECT, ERR_REFUSED},
    {CURLE_OPERATION_TIMEDOUT, ERR_TIMEOUT},
    {CURLE_PEER_FAILED_VERIFICATION, ERR_TLS_VERIFY},
    {CURLE_SSL_CONNECT_ERROR, ERR_TLS},
    {CURLE_PARTIAL_FILE, ERR_CUT},
    {CURLE_GOT_NOTHING, ERR_CUT},
    {CURLE_RECV_ERROR, ERR_RESET},
    {CURLE_SEND_ERROR, ERR_RESET},
    {CURLE_WRITE_ERROR, ERR_FULL},
    {CURLE_ABORTED_BY_CALLBACK, ERR_CANCELLED},
    {CURLE_OUT_OF_MEMORY, ERR_NOMEM},
};

static enum err why(CURLcode code) {
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (reasons[i].code == code) {
            return reasons[i].e;
        }
    }
    return ERR_PROTOCOL;
}

static bool find_functions(struct blocking *b) {
    const struct {
        const char *name;
        void *member;
    } all[] = {
#define ROW(name) {"curl_" #name, &b->name},
        FUNCTIONS(ROW)
#undef ROW
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        void *function = dlsym(b->library, all[i].name);
        if (!function) {
            return false;
        }
        memcpy(all[i].member, &function, sizeof function);
    }
    return true;
}

// It stays loaded: what it stands on does not like to be taken away.
struct blocking *blocking_create(char *problem) {
    struct blocking *b = xcalloc(1, sizeof *b);
    b->library = dlopen(LIBRARY, RTLD_NOW | RTLD_NODELETE);
    if (!b->library || !find_functions(b)) {
        const char *why = dlerror();
        snprintf(problem, BLOCKING_PROBLEM, "%s (Debian's package libcurl4)", why ? why : LIBRARY);
    } else if (b->global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        snprintf(problem, BLOCKING_PROBLEM, "libcurl does not start");
    } else {
        return b;
    }
    free(b);
    return NULL;
}

void blocking_destroy(struct blocking *b) {
    if (b) {
        b->global_cleanup();
        free(b);
    }
}

static size_t take_bytes(char *bytes, size_t size, size_t n, void *answer) {
    return buf_append(answer, bytes, size * n) == OK ? size * n : 0;
}

// Called about once a second while nothing comes.
static int is_ending(void *call, curl_off_t a UNUSED, curl_off_t b UNUSED, curl_off_t c UNUSED, curl_off_t d UNUSED) {
    return atomic_load(((struct blocking_call *)call)->ending);
}

static bool add_field(const struct blocking *b, struct curl_slist **fields, const char *field) {
    struct curl_slist *longer = b->slist_append(*fields, field);
    *fields = longer ? longer : *fields;
    return longer;
}

static bool add_authorization(const struct blocking *b, struct curl_slist **fields, const char *value) {
    struct buf field;
    if (!value) {
        return true;
    }
    buf_init(&field, 64 * 1024);
    bool fine =
        buf_printf(&field, "Authorization: %s%c", value, '\0') == OK && add_field(b, fields, buf_str(&field).ptr);
    buf_finish(&field);
    return fine;
}

static CURLcode set_up(const struct blocking *b, CURL *curl, struct blocking_call *call, struct curl_slist *fields) {
    CURLcode e[] = {
        b->easy_setopt(curl, CURLOPT_URL, call->url),
        b->easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https"),
        b->easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1),
        b->easy_setopt(curl, CURLOPT_PROXY, ""), // as thaw's own client, which knows none
        b->easy_setopt(curl, CURLOPT_NOSIGNAL, 1L),
        b->easy_setopt(curl, CURLOPT_HTTPHEADER, fields),
        b->easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.len),
        b->easy_setopt(curl, CURLOPT_POSTFIELDS, call->body.ptr),
        b->easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)call->timeout_ms),
        b->easy_setopt(curl, CURLOPT_ERRORBUFFER, call->problem),
        b->easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes),
        b->easy_setopt(curl, CURLOPT_WRITEDATA, call->answer),
        b->easy_setopt(curl, CURLOPT_NOPROGRESS, 0L),
        b->easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, is_ending),
        b->easy_setopt(curl, CURLOPT_XFERINFODATA, call),
    };
    for (size_t i = 0; i < ARRAY_LEN(e); i++) {
        if (e[i] != CURLE_OK) {
            return e[i];
        }
    }
    return CURLE_OK;
}

enum err blocking_post(const struct blocking *b, struct blocking_call *call) {
    struct curl_slist *fields = NULL;
    CURL *curl = b->easy_init();
    CURLcode code = CURLE_OUT_OF_MEMORY;
    long status = 0;
    call->problem[0] = '\0';
    _Static_assert(BLOCKING_PROBLEM >= CURL_ERROR_SIZE, "libcurl writes that much");
    // An empty Expect: libcurl would ask for leave to send a large body.
    if (curl && add_field(b, &fields, "Content-Type: application/json") && add_field(b, &fields, "Expect:") &&
        add_authorization(b, &fields, call->authorization)) {
        code = set_up(b, curl, call, fields);
        code = code == CURLE_OK ? b->easy_perform(curl) : code;
        b->easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    }
    call->status = (int)status;
    if (code != CURLE_OK && call->problem[0] == '\0') {
        snprintf(call->problem, sizeof call->problem, "%s", b->easy_strerror(code));
    }
    b->slist_free_all(fields);
    b->easy_cleanup(curl);
    return code == CURLE_OK ? OK : why(code);
}
