// SPDX-License-Identifier: MIT
#include "lab/blocking.h"

#include <curl/curl.h>

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

enum err blocking_init(void) { return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? OK : ERR_SYS; }
void blocking_finish(void) { curl_global_cleanup(); }

static size_t take_bytes(char *bytes, size_t size, size_t n, void *answer) {
    return buf_append(answer, bytes, size * n) == OK ? size * n : 0;
}

// Called about once a second while nothing comes.
static int is_ending(void *call, curl_off_t a UNUSED, curl_off_t b UNUSED, curl_off_t c UNUSED, curl_off_t d UNUSED) {
    return atomic_load(((struct blocking_call *)call)->ending);
}

static bool add_field(struct curl_slist **fields, const char *field) {
    struct curl_slist *longer = curl_slist_append(*fields, field);
    *fields = longer ? longer : *fields;
    return longer;
}

static bool add_authorization(struct curl_slist **fields, const char *value) {
    struct buf field;
    if (!value) {
        return true;
    }
    buf_init(&field, 64 * 1024);
    bool fine = buf_printf(&field, "Authorization: %s%c", value, '\0') == OK && add_field(fields, buf_str(&field).ptr);
    buf_finish(&field);
    return fine;
}

static CURLcode set_up(CURL *curl, struct blocking_call *call, struct curl_slist *fields) {
    CURLcode e[] = {
        curl_easy_setopt(curl, CURLOPT_URL, call->url),
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https"),
        curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1),
        curl_easy_setopt(curl, CURLOPT_PROXY, ""), // as thaw's own client, which knows none
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L),
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields),
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.len),
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, call->body.ptr),
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)call->timeout_ms),
        curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, call->problem),
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes),
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, call->answer),
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L),
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, is_ending),
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, call),
    };
    for (size_t i = 0; i < ARRAY_LEN(e); i++) {
        if (e[i] != CURLE_OK) {
            return e[i];
        }
    }
    return CURLE_OK;
}

enum err blocking_post(struct blocking_call *call) {
    struct curl_slist *fields = NULL;
    CURL *curl = curl_easy_init();
    CURLcode code = CURLE_OUT_OF_MEMORY;
    long status = 0;
    call->problem[0] = '\0';
    _Static_assert(BLOCKING_PROBLEM >= CURL_ERROR_SIZE, "libcurl writes that much");
    // An empty Expect: libcurl would ask for leave to send a large body.
    if (curl && add_field(&fields, "Content-Type: application/json") && add_field(&fields, "Expect:") &&
        add_authorization(&fields, call->authorization)) {
        code = set_up(curl, call, fields);
        code = code == CURLE_OK ? curl_easy_perform(curl) : code;
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    }
    call->status = (int)status;
    if (code != CURLE_OK && call->problem[0] == '\0') {
        snprintf(call->problem, sizeof call->problem, "%s", curl_easy_strerror(code));
    }
    curl_slist_free_all(fields);
    curl_easy_cleanup(curl);
    return code == CURLE_OK ? OK : why(code);
}
