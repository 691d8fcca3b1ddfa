// SPDX-License-Identifier: MIT
#include "cmd/outside.h"

#include <errno.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/claim.h"
#include "net/listen.h"

static bool is_off(struct str s) { return s.len == 0 || str_ieq(s, STR("off")); }

static int claim_admin(struct outside *o, const struct config *config) {
    struct str host;
    uint16_t port = 0;
    if (is_off(config->admin)) {
        return EXIT_FINE;
    }
    if (o->socket >= 0) {
        o->address.len = sizeof o->address.v6;
        o->has_admin = getsockname(o->socket, &o->address.sa, &o->address.len) == 0;
        return EXIT_FINE;
    }
    if (config->admin_asked) {
        int wrong = claim_address("serve", "admin", config->admin, &o->address);
        o->has_admin = !wrong;
        return wrong;
    }
    o->has_admin = config_listen_parse(config->admin, &host, &port) == OK &&
                   address_parse(host, port, &o->address) == OK && listen_claim(&o->address) == OK;
    if (!o->has_admin) {
        log_warning("%.*s is in use: there are no metrics and no page. --admin takes another address, or off",
                    STR_ARG(config->admin));
    }
    return EXIT_FINE;
}

static int open_access(struct outside *o, const struct config *config) {
    struct str where = config->access_log;
    bool to_stdout = str_eq(where, STR("stdout"));
    bool to_stderr = str_eq(where, STR("stderr"));
    if (is_off(where)) {
        return EXIT_FINE;
    }
    struct sink_options options = {.path = to_stdout || to_stderr ? NULL : where.ptr, // it ends with a NUL
                                   .fd = to_stdout ? STDOUT_FILENO : STDERR_FILENO,
                                   .name = "access log"};
    if (sink_open(&options, &o->access) != OK) {
        fprintf(stderr, "thaw serve: the access log cannot be written to %.*s: %s\n", STR_ARG(where), strerror(errno));
        return EXIT_UNREACHABLE;
    }
    return EXIT_FINE;
}

int outside_claim(struct outside *o, const struct config *config, int socket) {
    o->socket = socket;
    int wrong = claim_admin(o, config);
    return wrong ? wrong : open_access(o, config);
}

static void write_log(struct log_writer *writer, struct str line) {
    (void)sink_put(container_of(writer, struct outside, writer)->log, line); // what it drops it counts
}

int outside_open(struct outside *o, const struct admin_options *options) {
    struct sink_options stderr_options = {.fd = STDERR_FILENO, .name = "log"};
    struct admin_options admin = *options;
    char text[ADDRESS_TEXT];
    if (o->has_admin) {
        log_info("metrics, states and a page: http://%s/ui", address_format(&o->address, text));
    }
    if (sink_open(&stderr_options, &o->log) != OK) {
        o->log = NULL; // lines go the short way
    }
    admin.listen = &o->address;
    admin.socket = o->socket;
    admin.access = o->access;
    admin.log = o->log;
    enum err e = o->has_admin ? admin_open(&admin, &o->admin) : OK;
    if (e != OK) {
        log_error("the admin listener did not start: %s", err_text(e));
    }
    return e == OK ? EXIT_FINE : EXIT_UNREACHABLE;
}

void outside_begin(struct outside *o) {
    if (o->log) {
        o->writer.write = write_log;
        log_set_writer(&o->writer);
    }
}

int outside_socket(const struct outside *o) { return o->admin ? admin_socket(o->admin) : -1; }

void outside_reopen(struct outside *o) {
    if (o->access) {
        sink_reopen(o->access);
    }
}

void outside_close(struct outside *o) {
    admin_close(o->admin);
    log_set_writer(NULL);
    sink_close(o->log);
    o->admin = NULL;
    o->log = NULL;
}

void outside_finish(struct outside *o) {
    sink_close(o->access);
    o->access = NULL;
}
