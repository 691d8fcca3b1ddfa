// SPDX-License-Identifier: MIT
#include "gateway/tapes.h"

#include <inttypes.h>

#include "gateway/resume.h"
#include "gateway/steps.h"

enum { JSON_MAX = 320 };

static struct str id_of(const struct request *r) {
    struct str name = route_below(r);
    return str_first(name, str_find(name, '/'));
}

void tapes_read(struct request *r) {
    if (!resume_for_reading(r)) {
        return;
    }
    struct str rest = str_skip(route_below(r), id_of(r).len);
    if (str_eq(rest, STR("/status"))) {
        tapes_status(r);
    } else if (rest.len) {
        request_error(r, 404, OUTCOME_REFUSED, NULL, NULL, "Below a tape there is only /status.");
    } else {
        resume_read(r, id_of(r));
    }
}

// ---- what may have to be asked on another worker

struct question {
    struct errand errand;
    struct request *request; // NULL: the client left meanwhile
    enum tape_end end;
    int status;
    uint64_t bytes, events, created_s;
    bool kept, deleted;
};

// The process ends: every loop has been left.
static void free_question(struct errand *e) {
    struct question *q = container_of(e, struct question, errand);
    if (q->request) {
        q->request->question = NULL;
    }
    free(q);
}

static void look(struct question *q, const struct tape *t) {
    q->end = t->why.end;
    q->status = t->has_head ? t->head.status : 0;
    q->bytes = t->written;
    q->events = t->marks_gone + t->marks_count;
    q->kept = t->kept;
    q->created_s = t->kept ? t->kept->created_s : 0;
}

static void run_status(struct errand *e, struct shelf *there UNUSED, struct tape *t) {
    look(container_of(e, struct question, errand), t);
}

static void run_delete(struct errand *e, struct shelf *there UNUSED, struct tape *t) {
    struct question *q = container_of(e, struct question, errand);
    bool ran = tape_running(t);
    tape_stop(t, &(struct tape_why){TAPE_CANCELLED, OK, 0, "its client cancelled it"});
    look(q, t);
    if (!ran && t->kept) {
        q->deleted = true;
        shelf_forget(t->kept);
    }
}

// To whom the 202 was given the call is as good as done: it ends with no reader any more.
static void run_adopt(struct errand *e, struct shelf *there UNUSED, struct tape *t) {
    struct question *q = container_of(e, struct question, errand);
    look(q, t);
    if (tape_running(t) && t->kept) {
        t->kept->disconnect = TAPE_GOES_ON;
        shelf_joined(t);
    } else if (!t->kept || q->end == TAPE_CANCELLED) { // meanwhile
        e->found = SHELF_GONE;
    }
}

static void on_back(struct errand *e) {
    struct question *q = container_of(e, struct question, errand);
    struct request *r = q->request;
    char json[JSON_MAX];
    if (r) {
        r->question = NULL;
    }
    if (r && e->found != SHELF_HERE) {
        resume_missing(r, e->found);
    } else if (r && !r->resume->reads) {
        resume_acknowledge(r, &e->id, q->end);
    } else if (r) {
        snprintf(json, sizeof json,
                 "{\"id\":\"%s\",\"object\":\"thaw.tape\",\"state\":\"%s\",\"status\":%d,\"bytes\":%" PRIu64
                 ",\"events\":%" PRIu64 ",\"created\":%" PRIu64 ",\"kept\":%s,\"deleted\":%s}\n",
                 e->id.text, tape_end_name(q->end), q->status, q->bytes, q->events, q->created_s,
                 q->kept ? "true" : "false", q->deleted ? "true" : "false");
        request_answer(r, 200, OUTCOME_LOCAL, str_c(json));
    }
    free(q);
}

static void ask(struct request *r, const struct tape_id *id,
                void (*run)(struct errand *e, struct shelf *there, struct tape *t)) {
    struct question *q = xcalloc(1, sizeof *q);
    q->errand.id = *id;
    q->errand.tenant = r->resume->tenant;
    q->errand.anybody = r->resume->reads && r->worker->config->tape_read_by_id;
    q->errand.run = run;
    q->errand.on_back = on_back;
    q->errand.destroy = free_question;
    q->request = r;
    r->question = q;
    request_set_state(r, REQUEST_FOLLOWING);
    errand_send(&r->worker->shelf, &q->errand);
}

// About the tape that the path names.
static void ask_named(struct request *r, void (*run)(struct errand *e, struct shelf *there, struct tape *t)) {
    struct str text = id_of(r);
    struct tape_id id = {{0}};
    if (text.len != TAPE_ID_LEN) {
        resume_missing(r, SHELF_UNKNOWN);
        return;
    }
    memcpy(id.text, text.ptr, text.len);
    ask(r, &id, run);
}

void tapes_adopt(struct request *r, const struct tape_id *id) {
    if (request_hold(r)) { // it may have to start again
        ask(r, id, run_adopt);
    }
}

void tapes_forget_question(struct request *r) {
    if (r->question) {
        r->question->request = NULL;
        r->question = NULL;
    }
}

void tapes_status(struct request *r) { ask_named(r, run_status); }

void tapes_delete(struct request *r) {
    if (id_of(r).len != route_below(r).len) {
        request_error(r, 404, OUTCOME_REFUSED, NULL, NULL, "Below a tape there is nothing to delete.");
    } else if (resume_for_reading(r)) {
        ask_named(r, run_delete);
    }
}
