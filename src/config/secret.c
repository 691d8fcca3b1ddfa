// SPDX-License-Identifier: MIT
// Keys, the client's and the upstream's: written out, from ${NAME}, or from files (file:PATH, one on each
// line, blank lines and lines that begin with # left out). They end up in header fields, so they are visible
// ASCII and nothing else: a line end at the end of a variable is found here and not as a puzzling 401. No
// message in this file contains what it complains about; the path of a key file is shown unless it came from
// a variable.
#include "config/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum { KEY_FILE_MAX = 4 << 20, KEY_MAX = 8 << 10, READ_STEP = 16 << 10 };

typedef enum err take_secret(struct reader *r, const struct place *place, const struct key *key, void *base,
                             struct str secret);

static const char *secret_check(struct str s) {
    if (s.len == 0) {
        return "must not be empty";
    }
    if (s.len > KEY_MAX) {
        return "is too long for a key";
    }
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c <= 0x20 || c == 0x7f) {
            return "contains a blank, a line end or another control character";
        }
        if (c > 0x7f) {
            return "contains a character that is not ASCII";
        }
    }
    return NULL;
}

static enum err refuse_file(struct reader *r, const struct place *place, const struct value *value, const char *text) {
    struct str path = str_skip(value->text, STR("file:").len);
    say_at(r, place);
    if (value->variable.len) {
        problem_add(r->problem, "the key file");
    } else {
        problem_name(r->problem, path);
    }
    problem_add(r->problem, " %s", text);
    return ERR_INVALID;
}

static enum err check_file(struct reader *r, const struct place *place, const struct value *value, int fd) {
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        return refuse_file(r, place, value, "is not a regular file");
    }
    if (info.st_mode & (S_IRWXG | S_IRWXO)) {
        char text[96];
        snprintf(text, sizeof text, "is open to other users (mode %04o): chmod 600 it",
                 (unsigned)info.st_mode & 07777u);
        return refuse_file(r, place, value, text);
    }
    return OK;
}

static enum err read_all(struct reader *r, const struct place *place, const struct value *value, int fd,
                         struct buf *out) {
    ssize_t n = 1;
    while (n > 0) {
        enum err e = buf_reserve(out, READ_STEP);
        if (e != OK) {
            return e == ERR_FULL ? refuse_file(r, place, value, "is too large") : no_memory(r);
        }
        n = read(fd, buf_tail(out), READ_STEP);
        if (n > 0) {
            buf_added(out, (size_t)n);
        } else if (n < 0 && errno == EINTR) {
            n = 1;
        } else if (n < 0) {
            return refuse_file(r, place, value, strerror(errno));
        }
    }
    return OK;
}

static enum err open_file(struct reader *r, const struct place *place, const struct value *value, int *fd) {
    struct str written = str_skip(value->text, STR("file:").len);
    if (!written.len || memchr(written.ptr, '\0', written.len)) {
        return refuse_at(r, place, "needs a path behind file:");
    }
    char *path = str_dup(written);
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); // not to wait on a FIFO
    free(path);
    if (*fd < 0) {
        char text[128];
        snprintf(text, sizeof text, "cannot be opened: %s", strerror(errno));
        return refuse_file(r, place, value, text);
    }
    return OK;
}

static enum err read_file(struct reader *r, const struct place *place, const struct value *value, struct buf *out) {
    int fd = -1;
    enum err e = open_file(r, place, value, &fd);
    if (e != OK) {
        return e;
    }
    e = check_file(r, place, value, fd);
    if (e == OK) {
        e = read_all(r, place, value, fd, out);
    }
    close(fd);
    return e;
}

static struct str line_trim(struct str line) {
    line = str_trim(line);
    if (str_ends(line, STR("\r"))) {
        line = str_trim(str_first(line, line.len - 1));
    }
    return line;
}

// Hands over each key of the file; *count says how many there were.
static enum err each_in_file(struct reader *r, const struct place *place, const struct key *key, void *base,
                             const struct value *value, struct str content, take_secret *take, unsigned *count) {
    struct str line;
    for (unsigned number = 1; str_split(&content, '\n', &line); number++) {
        line = line_trim(line);
        if (!line.len || line.ptr[0] == '#') {
            continue;
        }
        const char *why = secret_check(line);
        if (why) {
            char text[160];
            snprintf(text, sizeof text, "line %u %s", number, why);
            return refuse_file(r, place, value, text);
        }
        ++*count;
        enum err e = take(r, place, key, base, line);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

static enum err take_from_file(struct reader *r, const struct place *place, const struct key *key, void *base,
                               const struct value *value, take_secret *take, unsigned most) {
    struct buf content;
    unsigned count = 0;
    buf_init(&content, KEY_FILE_MAX);
    enum err e = read_file(r, place, value, &content);
    if (e == OK) {
        e = each_in_file(r, place, key, base, value, buf_str(&content), take, &count);
    }
    buf_finish(&content);
    if (e == OK && count == 0) {
        return refuse_file(r, place, value, "holds no key");
    }
    return e == OK && count > most ? refuse_file(r, place, value, "holds more than one key") : e;
}

static enum err take_value(struct reader *r, const struct place *place, const struct key *key, void *base,
                           const struct value *value, take_secret *take, unsigned most) {
    if (str_starts(value->text, STR("file:"))) {
        return take_from_file(r, place, key, base, value, take, most);
    }
    const char *why = secret_check(value->text);
    return why ? refuse_at(r, place, why) : take(r, place, key, base, value->text);
}

static enum err keep(struct reader *r, const struct place *place UNUSED, const struct key *key, void *base,
                     struct str secret) {
    struct str copy = arena_str(&r->config->arena, secret);
    if (!copy.ptr) {
        return no_memory(r);
    }
    *(struct str *)key_place(key, base) = copy;
    return OK;
}

static enum err add(struct reader *r, const struct place *place UNUSED, const struct key *key, void *base,
                    struct str secret) {
    struct config_key entry = {.secret = arena_str(&r->config->arena, secret)};
    if (!entry.secret.ptr || key_add_entry(key, &r->config->arena, base, &entry) != OK) {
        return no_memory(r);
    }
    return OK;
}

enum err secret_set(struct reader *r, const struct place *place, const struct key *key, void *base,
                    struct value value) {
    return take_value(r, place, key, base, &value, keep, 1);
}

enum err client_key_add(struct reader *r, const struct place *place, const struct key *key, void *base,
                        struct value value) {
    return take_value(r, place, key, base, &value, add, UINT32_MAX);
}
