// SPDX-License-Identifier: MIT
// A client's HTTP/2 connections: what client_start (client.h) does where HTTP/2 is spoken, or ALPN is to decide. Private to
// http/.
#pragma once
#include "http/client.h"

MUSTCHECK enum err h2_client_start(struct origin *o, struct xchg *x, bool fresh);
// A connection that was made and turned out to speak HTTP/2: x's on_drain comes.
void h2_client_adopt(struct origin *o, struct xchg *x, struct conn *take_conn);
void h2_client_finish(struct origin *o);
