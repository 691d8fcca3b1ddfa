// SPDX-License-Identifier: MIT
// The HTTP/2 connections of a server: what http/server.h says, where HTTP/2 is spoken. Private to http/.
#pragma once
#include "http/server.h"

// `asked`, then `first`: what was read of it already (they may be empty). `hup`: CONN_HUP came.
void h2_server_accept(struct http_server *server, struct conn *take_conn, struct str asked, struct str first, bool hup);
unsigned h2_server_close_idle(struct http_server *server, unsigned most, uint64_t idle_ms);
void h2_server_drain(struct http_server *server);
void h2_server_finish(struct http_server *server);
