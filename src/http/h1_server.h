// SPDX-License-Identifier: MIT
// The HTTP/1 connections of a server: what http/server.h says, where HTTP/1 is spoken. Private to http/.
#pragma once
#include "http/server.h"

// Hands it over to h2_server_accept when its first bytes are HTTP/2's.
void h1_server_accept(struct http_server *server, struct conn *take_conn);
bool h1_server_carries(const struct xchg *x);
struct conn *h1_server_release(struct xchg *x); // of an exchange that it carries
void h1_server_reset(struct xchg *x);           // likewise
unsigned h1_server_close_idle(struct http_server *server, unsigned most, uint64_t idle_ms);
void h1_server_drain(struct http_server *server);
void h1_server_finish(struct http_server *server);
