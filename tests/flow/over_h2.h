// SPDX-License-Identifier: MIT
// Peers that speak HTTP/2, for flow.c. A test says and sees HTTP/1.1 text all the same: what a peer says is read as a
// message and leaves in frames, what comes is put into `got` as an HTTP/1.1 peer would have got it, names in their usual
// capitals. So the same scenario runs whatever is spoken.
//
//   a client     has a connection of its own and asks one thing after the other
//   an upstream  is asked on few connections; each stream is a peer. One whose exchange is over gets the next stream, the
//                last used first, as a kept connection gets the next request
//   leaving      a peer that is alone on its connection ends that; else its stream is ended, or broken off where an
//                HTTP/1.1 message would be cut
//
// What cannot be said in HTTP/2 fails the test: it belongs to HTTP/1.1 alone (H1_ONLY in flow.h).
#pragma once
#include "flow.h"

// The client's end of `take_conn`.
struct peer *over_h2_client(struct worker *worker, struct conn *take_conn);
// A connection to that upstream; its peers come with their streams.
void over_h2_upstream(struct worker *worker, struct flow_upstream *upstream, struct conn *take_conn);

// What flow.h says, of one with a lane.
void over_h2_say(struct peer *p);
void over_h2_read(struct peer *p, size_t bytes);
void over_h2_leave(struct peer *p, enum leaving way);
// All of a worker's: the last look at what came, then closes.
void over_h2_end(struct worker *worker);
void over_h2_free(struct world *w);
