// SPDX-License-Identifier: MIT
// OpenAI's Responses API, as far as it is about answers that are read later: `background: true` for upstreams that lack
// it, GET /responses/{id} (with ?stream=true&starting_after=n), POST /responses/{id}/cancel, DELETE. An id is ours,
// "resp_" and a tape's, or the upstream's own, which is learned as the answer passes by. Of any other id the upstream
// is asked.
#pragma once
#include "gateway/request.h"

// Everything below /responses/.
void responses_route(struct request *r);
// Learns the upstream's id of the response on a kept tape.
void responses_watch(struct worker *w, struct tape *t);
// The answer to a request that began a background response: queued.
void responses_acknowledge(struct request *r);
// The tape of the response that is asked for was found: what there is of it, as an object.
void responses_answer(struct request *r, struct tape *t);
