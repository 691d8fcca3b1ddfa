// SPDX-License-Identifier: MIT
#include <arpa/inet.h>

#include "net/conn.h"

const char *address_format(const struct address *a, char out[ADDRESS_TEXT]) {
    char host[INET6_ADDRSTRLEN] = "?";
    if (a->sa.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a->v6.sin6_addr, host, sizeof host);
        snprintf(out, ADDRESS_TEXT, "[%s]:%u", host, (unsigned)ntohs(a->v6.sin6_port));
    } else {
        inet_ntop(AF_INET, &a->v4.sin_addr, host, sizeof host);
        snprintf(out, ADDRESS_TEXT, "%s:%u", host, (unsigned)ntohs(a->v4.sin_port));
    }
    return out;
}

enum err address_parse(struct str host, uint16_t port, struct address *a) {
    char text[INET6_ADDRSTRLEN];
    *a = (struct address){0};
    if (host.len == 0 || host.len >= sizeof text) {
        return ERR_INVALID;
    }
    memcpy(text, host.ptr, host.len);
    text[host.len] = '\0';
    if (inet_pton(AF_INET, text, &a->v4.sin_addr) == 1) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons(port);
        a->len = sizeof a->v4;
        return OK;
    }
    if (inet_pton(AF_INET6, text, &a->v6.sin6_addr) == 1) {
        a->v6.sin6_family = AF_INET6;
        a->v6.sin6_port = htons(port);
        a->len = sizeof a->v6;
        return OK;
    }
    return ERR_INVALID;
}
