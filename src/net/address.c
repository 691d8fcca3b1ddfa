// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <netinet/in.h>

#include "net/conn.h"

const char *address_format(const struct address *a, char out[ADDRESS_TEXT]) {
    char host[INET6_ADDRSTRLEN] = "?";
    if (a->sa.sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&a->storage;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(out, ADDRESS_TEXT, "[%s]:%u", host, (unsigned)ntohs(v6->sin6_port));
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&a->storage;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(out, ADDRESS_TEXT, "%s:%u", host, (unsigned)ntohs(v4->sin_port));
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
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&a->storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&a->storage;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        a->len = sizeof *v4;
        return OK;
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        a->len = sizeof *v6;
        return OK;
    }
    return ERR_INVALID;
}
