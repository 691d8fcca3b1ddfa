// SPDX-License-Identifier: MIT
// OpenAI's Responses API, as far as it is about answers that are read later: `background: true` for upstreams that lack
// it, GET /responses/{id} (with ?stream=true&starting_after=n), POST /responses/{id}/cancel, DELETE. An id is ours,
// "resp_" and a tape's, or the upstream's own, which is learned as the answer passes by. Of any other id the upstream
// is asked, and of its own where the tape is not the answer to that (it was cut, its response was not done yet), and to
// cancel or delete them: the upstream has them as well.
#pragma once
#include "gateway/request.h"

// Everything below /responses/.
void responses_route(struct request *r);
// Learns the upstream's id of the response on a kept tape. `ours`: thaw does `background` for it, and the upstream knows
// nothing of that.
void responses_watch(struct worker *w, struct tape *t, bool ours);
// The answer to a request that began a background response: queued.
void responses_acknowledge(struct request *r);
// The tape of the response that is asked for was found. True: answered, or on its way; false: it is to be read.
MUSTCHECK bool responses_take(struct request *r, struct tape *t);
// There is no such tape. True: the upstream is asked instead.
MUSTCHECK bool responses_pass_on(struct request *r, enum shelf_find found);
