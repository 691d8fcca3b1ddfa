// SPDX-License-Identifier: MIT
// A client's HTTP/1 connections: what client_start (client.h) does where HTTP/1 is spoken. Private to http/.
#pragma once
#include "http/client.h"

MUSTCHECK enum err h1_client_start(struct origin *o, struct xchg *x, bool fresh);
// A connection that was made and turned out to speak HTTP/1: x's on_drain comes.
void h1_client_adopt(struct origin *o, struct xchg *x, struct conn *take_conn);
void h1_client_finish(struct origin *o);
