// SPDX-License-Identifier: MIT
#include "gateway/tapes.h"

#include <inttypes.h>

#include "gateway/jobs.h"
#include "gateway/resume.h"
#include "gateway/steps.h"

enum { JSON_MAX = 320 };

static struct str id_of(const struct request *r) {
    struct str name = route_below(r);
    return str_first(name, str_find(name, '/'));
}

// ---- what may have to be asked on another worker

struct question {
    struct errand errand;
    struct request *request; // NULL: the client left meanwhile
    tapes_then *then;
    enum tapes_order order;
    struct tape_state seen;
    struct buf asked; // of ADOPT with a store
};

// The process ends: every loop has been left.
static void free_question(struct errand *e) {
    struct question *q = container_of(e, struct question, errand);
    if (q->request) {
        q->request->question = NULL;
    }
    buf_finish(&q->asked);
    free(q);
}

static struct tape_state look(const struct tape *t) {
    return (struct tape_state){
        .end = tape_end_name(t->why.end),
        .status = t->has_head ? t->status : 0,
        .bytes = t->written,
        .events = tape_marks(t),
        .created_s = t->record ? t->record->created_s : 0,
        .kept = tape_kept(t),
    };
}

static void cancel(struct tape *t) {
    tape_stop(t, &(struct tape_why){TAPE_CANCELLED, OK, 0, 0, "its client cancelled it"});
}

// To whom the 202 was given the call is as good as done: it ends with no reader any more.
static void adopt(struct question *q, struct shelf *there, struct tape *t) {
    struct tape_kept *kept = tape_kept(t);
    if (tape_running(t) && kept) {
        kept->disconnect = TAPE_GOES_ON;
        shelf_joined(t);
        jobs_adopt(there->owner, kept, buf_str(&q->asked));
    } else if (!kept || t->why.end == TAPE_CANCELLED) { // meanwhile
        q->errand.found = SHELF_GONE;
    }
}

static void on_question(struct errand *e, struct shelf *there, struct tape *t) {
    struct question *q = container_of(e, struct question, errand);
    struct tape_id id = shelf_id(there, t);
    bool ran = tape_running(t);
    switch (q->order) {
    case TAPES_LOOK: q->seen = look(t); break;
    case TAPES_CANCEL:
        cancel(t);
        q->seen = look(t);
        break;
    case TAPES_DELETE:
        cancel(t);
        q->seen = look(t);
        q->seen.deleted = !ran && tape_kept(t);
        if (q->seen.deleted) {
            tape_kept(t)->stored_until_s = 0; // and its keys are free
            shelf_forget(tape_kept(t));
            jobs_forget(there->owner, &id);
        }
        break;
    case TAPES_ADOPT:
        q->seen = look(t);
        adopt(q, there, t);
        break;
    }
}

static void on_back(struct errand *e) {
    struct question *q = container_of(e, struct question, errand);
    struct request *r = q->request;
    if (r) {
        r->question = NULL;
        q->then(r, e->found == SHELF_HERE ? &q->seen : NULL, e->found);
    }
    buf_finish(&q->asked);
    free(q);
}

void tapes_ask(struct request *r, const struct tape_id *id, enum tapes_order order, tapes_then *then) {
    struct question *q = xcalloc(1, sizeof *q);
    q->errand.id = jobs_place(r->worker, id);
    q->errand.tenant = r->resume->tenant;
    q->errand.anybody = r->resume->reads && r->setup->config->tape_read_by_id;
    q->errand.run = on_question;
    q->errand.on_back = on_back;
    q->errand.destroy = free_question;
    q->request = r;
    q->then = then;
    q->order = order;
    if (order == TAPES_ADOPT && r->worker->store && jobs_pack(r, &q->asked) != OK) {
        buf_finish(&q->asked);
        free(q);
        jobs_refuse(r, "there is no memory for it");
        return;
    }
    request_set_state(r, REQUEST_FOLLOWING);
    r->question = q;
    errand_send(&r->worker->shelf, &q->errand);
}

void tapes_forget_question(struct request *r) {
    if (r->question) {
        r->question->request = NULL;
        r->question = NULL;
    }
}

// ---- /tapes/{id}/status, DELETE

static void answer(struct request *r, const struct tape_state *state) {
    char json[JSON_MAX];
    snprintf(json, sizeof json,
             "{\"id\":\"%s\",\"object\":\"thaw.tape\",\"state\":\"%s\",\"status\":%d,\"bytes\":%" PRIu64
             ",\"events\":%" PRIu64 ",\"created\":%" PRIu64 ",\"kept\":%s,\"deleted\":%s}\n",
             r->resume->id.text, state->end, state->status, state->bytes, state->events, state->created_s,
             state->kept ? "true" : "false", state->deleted ? "true" : "false");
    request_answer(r, 200, OUTCOME_LOCAL, str_c(json));
}

static const char *state_name(enum store_state state) {
    switch (state) {
    case STORE_RUNNING: return tape_end_name(TAPE_RUNNING);
    case STORE_WHOLE: return tape_end_name(TAPE_WHOLE);
    case STORE_CUT: return tape_end_name(TAPE_CUT);
    case STORE_CANCELLED: return tape_end_name(TAPE_CANCELLED);
    case STORE_INTERRUPTED: return "interrupted";
    }
    return "";
}

static void on_state(struct request *r, const struct tape_state *state, enum shelf_find found);

static void on_stored(struct request *r, const struct store_record *record) {
    if (!record) {
        resume_missing(r, SHELF_UNKNOWN);
        return;
    }
    bool deletes = r->head->method == METHOD_DELETE;
    if (jobs_runs_again(r, record)) {
        tapes_ask(r, &r->resume->id, deletes ? TAPES_DELETE : TAPES_LOOK, on_state);
        return;
    }
    if (deletes && jobs_elsewhere(r, record)) {
        return;
    }
    struct tape *t = jobs_restore(r->worker, record);
    struct tape_state state = look(t);
    tape_unref(t);
    state.end = state_name(record->state);
    state.kept = true;
    state.deleted = deletes;
    if (deletes) {
        jobs_forget(r->worker, &r->resume->id);
    }
    answer(r, &state);
}

static void on_state(struct request *r, const struct tape_state *state, enum shelf_find found) {
    if (state) {
        answer(r, state);
    } else if (!jobs_find(r, &r->resume->id, on_stored)) {
        resume_missing(r, found);
    }
}

static void ask_named(struct request *r, enum tapes_order order) {
    struct str id = id_of(r);
    if (id.len != TAPE_ID_LEN) {
        resume_missing(r, SHELF_UNKNOWN);
    } else if (request_hold(r)) {
        memcpy(r->resume->id.text, id.ptr, id.len);
        tapes_ask(r, &r->resume->id, order, on_state);
    }
}

void tapes_route(struct request *r) {
    struct str rest = str_skip(route_below(r), id_of(r).len);
    bool deletes = r->head->method == METHOD_DELETE;
    bool status = str_eq(rest, STR("/status")) && !deletes;
    if (rest.len && !status) {
        request_error(r, 404, OUTCOME_REFUSED, NULL, NULL, "Below a tape there is %s.",
                      deletes ? "nothing to delete" : "only /status");
    } else if (!resume_for_reading(r)) {
        return; // answered
    } else if (rest.len || deletes) {
        ask_named(r, deletes ? TAPES_DELETE : TAPES_LOOK);
    } else {
        resume_read(r, id_of(r));
    }
}

// ---- 202 for what runs already

static void on_promised(struct request *r, const struct store_record *record) {
    if (record) {
        resume_acknowledge(r, &r->resume->id, state_name(record->state));
    } else {
        jobs_refuse(r, "the disk did not take it");
    }
}

static void on_adopted_stored(struct request *r, const struct store_record *record) {
    if (record && (!jobs_unfinished(record) || record->elsewhere)) {
        resume_acknowledge(r, &r->resume->id, state_name(record->state));
    } else {
        resume_missing(r, SHELF_UNKNOWN);
    }
}

// Where there is a store it is promised only once the disk has it: what was put there before is found, or was refused.
static void on_adopted(struct request *r, const struct tape_state *state, enum shelf_find found) {
    if (state && jobs_find(r, &r->resume->id, on_promised)) {
        return;
    }
    if (state) {
        resume_acknowledge(r, &r->resume->id, state->end);
    } else if (!jobs_find(r, &r->resume->id, on_adopted_stored)) {
        resume_missing(r, found);
    }
}

void tapes_adopt(struct request *r, const struct tape_id *id) {
    if (request_hold(r)) { // it may have to start again
        tapes_ask(r, id, TAPES_ADOPT, on_adopted);
    }
}
