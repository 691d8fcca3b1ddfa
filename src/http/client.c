// SPDX-License-Identifier: MIT
// Which version an origin speaks.
#include "http/client.h"

#include "http/h1.h"
#include "http/h1_client.h"
#include "http/h2.h"
#include "http/h2_client.h"

void http_client_init(struct http_client *client) {
    client->spare = NULL;
    client->h2 = NULL;
}

void http_client_finish(struct http_client *client) {
    h1_destroy(client->spare);
    client->spare = NULL;
    h2_side_destroy(client->h2);
    client->h2 = NULL;
}

void origin_init(struct origin *o, struct http_client *client) {
    o->client = client;
    list_init(&o->idle);
    list_init(&o->open_list);
    list_init(&o->links);
    list_init(&o->full_links);
}

void origin_finish(struct origin *o) {
    h1_client_finish(o);
    h2_client_finish(o);
}

enum err client_start(struct origin *o, struct xchg *x, bool fresh) {
    bool h2 = o->speaks == ORIGIN_H2 || (o->speaks == ORIGIN_ASK && !o->agreed_h1);
    x->reused = x->untouched = false;
    return h2 ? h2_client_start(o, x, fresh) : h1_client_start(o, x, fresh);
}
