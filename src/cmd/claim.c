// SPDX-License-Identifier: MIT
#include "cmd/claim.h"

#include <netdb.h>

#include "base/mem.h"
#include "cmd/args.h"
#include "config/config.h"
#include "net/listen.h"

// A name as the system knows it. The process does nothing else yet: this may block.
static int resolve_name(const char *verb, struct str host, uint16_t port, struct address *address) {
    struct addrinfo *found = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    char *name = str_dup(host);
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    int problem = getaddrinfo(name, service, &hints, &found);
    if (problem) {
        fprintf(stderr, "thaw %s: cannot listen on '%s': %s\n", verb, name, gai_strerror(problem));
    } else {
        memcpy(&address->v6, found->ai_addr, found->ai_addrlen);
        address->len = found->ai_addrlen;
        freeaddrinfo(found);
    }
    free(name);
    return problem ? EXIT_USAGE : EXIT_FINE;
}

static const char *why_not(enum err e) {
    static const struct {
        enum err e;
        const char *text;
    } reasons[] = {
        {ERR_FULL, "the address is in use. Is thaw running already? Another one is taken by --"},
        {ERR_UNREACHABLE, "this machine does not have that address"},
        {ERR_SYS, "the operating system refused (ports below 1024 need a privilege)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (reasons[i].e == e) {
            return reasons[i].text;
        }
    }
    return err_text(e);
}

int claim_address(const char *verb, const char *option, struct str listen, struct address *address) {
    struct str host;
    uint16_t port = 0;
    if (config_listen_parse(listen, &host, &port) != OK) {
        return EXIT_USAGE;
    }
    bool everywhere = host.len == 0;
    if (address_parse(everywhere ? STR("::") : host, port, address) != OK) {
        int wrong = resolve_name(verb, host, port, address);
        if (wrong) {
            return wrong;
        }
    }
    enum err e = listen_claim(address);
    if (e != OK && e != ERR_FULL && everywhere && address_parse(STR("0.0.0.0"), port, address) == OK) {
        e = listen_claim(address); // without IPv6 on this machine, all addresses are the IPv4 ones
    }
    if (e != OK) {
        fprintf(stderr, "thaw %s: cannot listen on %.*s: %s%s\n", verb, STR_ARG(listen), why_not(e),
                e == ERR_FULL ? option : "");
    }
    return e == OK ? EXIT_FINE : EXIT_UNREACHABLE;
}
