// SPDX-License-Identifier: MIT
#include "base/err.h"

#include <errno.h>

static const struct {
    const char *name;
    const char *text;
    enum err_class class;
    int status;
} errors[] = {
#define ERR(NAME, name, class, status, text) {name, text, ERR_CLASS_##class, status},
#include "base/err.def"
#undef ERR
};

const char *err_text(enum err e) { return errors[e].text; }
const char *err_name(enum err e) { return errors[e].name; }
enum err_class err_class(enum err e) { return errors[e].class; }
int err_status(enum err e) { return errors[e].status; }

enum err err_from_errno(int errno_value) {
    switch (errno_value) {
    case 0: return OK;
    case EAGAIN:
    case EINPROGRESS: return ERR_AGAIN;
    case ENOMEM:
    case ENOBUFS: return ERR_NOMEM;
    case EMFILE:
    case ENFILE: return ERR_FILES;
    case ECONNREFUSED: return ERR_REFUSED;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED: return ERR_RESET;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EADDRNOTAVAIL:
    case ENETDOWN: return ERR_UNREACHABLE;
    case ETIMEDOUT: return ERR_TIMEOUT;
    default: return ERR_SYS;
    }
}
