// SPDX-License-Identifier: MIT
#include "mock/library.h"

#include <dirent.h>
#include <errno.h>

#include "base/mem.h"
#include "llm/json.h"

#define SUFFIX ".rec"

enum { PATH_ROOM = 4096, SHOWN_MAX = 80 };

struct entry {
    struct recording recording;
    char *text;  // what it borrows from
    char *label; // "POST /v1/responses"
    char *file;  // its name, for people
    bool old;    // another one took its place; who reads it may go on
};

struct library {
    struct entry *entries;
    size_t count;
    size_t bytes;
};

// ---- files

// ERR_FULL: larger than what is left.
static enum err read_file(const char *path, size_t most, struct buf *text) {
    FILE *f = fopen(path, "re");
    if (!f) {
        return err_from_errno(errno);
    }
    enum err e = OK;
    size_t n = 1;
    buf_init(text, most);
    while (e == OK && n) {
        e = buf_reserve(text, 1);
        n = e == OK ? fread(buf_tail(text), 1, text->room - text->end, f) : 0;
        buf_added(text, n);
    }
    e = e == OK && ferror(f) ? ERR_SYS : e;
    fclose(f);
    return e;
}

static bool same_request(const struct recording *a, const struct recording *b) {
    return str_eq(a->method, b->method) && str_eq(a->target, b->target) && a->any_body == b->any_body &&
           (a->any_body || digest_equal(&a->body, &b->body));
}

static void add_entry(struct library *library, const struct recording *r, struct buf *take_text, const char *path) {
    char label[SHOWN_MAX + 40];
    const char *slash = strrchr(path, '/');
    for (size_t i = 0; i < library->count; i++) {
        struct entry *entry = &library->entries[i];
        entry->old = entry->old || same_request(&entry->recording, r);
    }
    if (!library->entries) {
        library->entries = xcalloc(LIBRARY_FILES, sizeof *library->entries); // pages that are not used cost nothing
    }
    snprintf(label, sizeof label, "%.*s %.*s", STR_ARG(str_first(r->method, 20)),
             STR_ARG(str_first(r->target, SHOWN_MAX)));
    library->entries[library->count++] = (struct entry){
        .recording = *r,
        .text = take_text->ptr,
        .label = str_dup(str_c(label)),
        .file = str_dup(str_c(slash ? slash + 1 : path)),
    };
    library->bytes += take_text->room;
}

enum err library_add(struct library *library, const char *path, char *problem) {
    struct recording r;
    struct buf text;
    unsigned line = 0;
    const char *what = NULL;
    if (library->count == LIBRARY_FILES) {
        snprintf(problem, LIBRARY_PROBLEM, "there are more than %d recordings", LIBRARY_FILES);
        return ERR_FULL;
    }
    buf_init(&text, 0);
    enum err e = read_file(path, LIBRARY_BYTES - library->bytes, &text);
    if (e != OK) {
        snprintf(problem, LIBRARY_PROBLEM, "%s: %s", path,
                 e == ERR_FULL ? "the recordings are larger than 256 MiB" : err_text(e));
    } else if (recording_parse(buf_str(&text), &r, &line, &what) != OK) {
        snprintf(problem, LIBRARY_PROBLEM, "%s:%u: %s", path, line, what);
        e = ERR_INVALID;
    } else {
        add_entry(library, &r, &text, path);
        return OK;
    }
    buf_finish(&text);
    return e;
}

// By name, so that of two for the same request the same one wins everywhere.
static int recordings_only(const struct dirent *entry) {
    struct str name = str_c(entry->d_name);
    return name.ptr[0] != '.' && str_ends(name, STR(SUFFIX));
}

struct library *library_open(const char *folder, char *problem) {
    struct dirent **names = NULL;
    int n = scandir(folder, &names, recordings_only, alphasort);
    if (n < 0) {
        snprintf(problem, LIBRARY_PROBLEM, "%s: %s", folder, strerror(errno));
        return NULL;
    }
    struct library *library = xcalloc(1, sizeof *library);
    enum err e = OK;
    for (int i = 0; i < n; i++) {
        char path[PATH_ROOM];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        e = e == OK ? library_add(library, path, problem) : e;
        free(names[i]);
    }
    free(names);
    if (e != OK) {
        library_close(library);
        return NULL;
    }
    return library;
}

void library_close(struct library *library) {
    for (size_t i = 0; library && i < library->count; i++) {
        free(library->entries[i].text);
        free(library->entries[i].label);
        free(library->entries[i].file);
    }
    if (library) {
        free(library->entries);
    }
    free(library);
}

size_t library_count(const struct library *library) { return library->count; }

// ---- requests

static bool is_credential(struct str parameter) {
    static const char *const names[] = {"key",   "api_key",      "api-key", "apikey",
                                        "token", "access_token", "sig",     "signature"};
    struct str name = str_first(parameter, str_find(parameter, '='));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_ieq(name, str_c(names[i]))) {
            return true;
        }
    }
    return false;
}

static enum err put_target(struct buf *out, struct str target) {
    size_t path = str_find(target, '?');
    struct str query = str_skip(target, path + 1);
    struct str parameter;
    char before = '?';
    enum err e = buf_str_append(out, str_first(target, path));
    while (e == OK && str_split(&query, '&', &parameter)) {
        if (parameter.len && !is_credential(parameter)) {
            e = buf_append(out, &before, 1);
            e = e == OK ? buf_str_append(out, parameter) : e;
            before = '&';
        }
    }
    return e;
}

static enum err digest_body(struct str body, struct buf *scratch, struct digest *digest) {
    struct json *json = json_open(body, body.len * 12 + 64 * 1024); // as llm/peek.h
    enum err e = json ? json_append_canonical(scratch, json_root(json)) : ERR_INVALID;
    json_close(json);
    *digest = digest_sha256(e == OK ? buf_str(scratch) : body);
    return e == ERR_INVALID ? OK : e;
}

enum err library_key(struct str method, struct str target, struct str body, struct buf *target_room,
                     struct buf *scratch, struct library_key *key) {
    buf_clear(target_room);
    buf_clear(scratch);
    enum err e = put_target(target_room, target);
    e = e == OK ? digest_body(body, scratch, &key->body) : e;
    key->method = method;
    key->target = buf_str(target_room);
    return e;
}

const struct recording *library_find(const struct library *library, const struct library_key *key) {
    const struct recording *any = NULL;
    for (size_t i = 0; i < library->count; i++) {
        const struct recording *r = &library->entries[i].recording;
        if (library->entries[i].old || !str_eq(r->method, key->method) || !str_eq(r->target, key->target)) {
            continue;
        }
        if (!r->any_body && digest_equal(&r->body, &key->body)) {
            return r;
        }
        any = r->any_body ? r : any;
    }
    return any;
}

const char *library_nearest(const struct library *library, const struct library_key *key, char *out, size_t size) {
    const char **labels = xcalloc(library->count + 1, sizeof *labels);
    char label[SHOWN_MAX + 40];
    snprintf(label, sizeof label, "%.*s %.*s", STR_ARG(str_first(key->method, 20)),
             STR_ARG(str_first(key->target, SHOWN_MAX)));
    snprintf(out, size, "none of the %zu recordings is near", library->count);
    for (size_t i = 0; i < library->count; i++) {
        labels[i] = library->entries[i].label;
    }
    const char *near = str_nearest(str_c(label), labels, library->count);
    for (size_t i = library->count; i-- > 0;) {
        const struct entry *entry = &library->entries[i];
        bool same = str_eq(entry->recording.method, key->method) && str_eq(entry->recording.target, key->target);
        if (same) {
            snprintf(out, size, "%s has it with another body", entry->file);
            break;
        }
        if (entry->label == near) {
            snprintf(out, size, "the nearest is %s (%s)", entry->label, entry->file);
        }
    }
    free(labels);
    return out;
}

const char *library_file_name(const struct library_key *key, char out[LIBRARY_NAME]) {
    unsigned char all[2 * sizeof(struct digest)];
    struct str path = str_first(key->target, 60);
    struct digest target = digest_sha256(key->target);
    memcpy(all, key->body.bytes, sizeof key->body.bytes);
    memcpy(all + sizeof key->body.bytes, target.bytes, sizeof target.bytes);
    struct digest both = digest_sha256(str_from((const char *)all, sizeof all));
    int n = snprintf(out, LIBRARY_NAME, "%.*s", STR_ARG(str_first(key->method, 12)));
    for (size_t i = 0; i < path.len; i++) {
        bool plain =
            hex_value(path.ptr[i]) >= 0 || (ascii_lower(path.ptr[i]) >= 'a' && ascii_lower(path.ptr[i]) <= 'z');
        out[n++] = plain ? path.ptr[i] : '-';
    }
    out[n++] = '-';
    for (size_t i = 0; i < 8; i++) {
        n += snprintf(out + n, LIBRARY_NAME - (size_t)n, "%02x", both.bytes[i]);
    }
    snprintf(out + n, LIBRARY_NAME - (size_t)n, SUFFIX);
    return out;
}
