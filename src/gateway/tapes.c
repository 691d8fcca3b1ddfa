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

static void free_question(struct errand *e) { free(container_of(e, struct question, errand)); }

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

static void on_back(struct errand *e) {
    struct question *q = container_of(e, struct question, errand);
    struct request *r = q->request;
    char json[JSON_MAX];
    if (r) {
        r->question = NULL;
    }
    if (r && e->found != SHELF_HERE) {
        resume_missing(r, e->found);
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

static void ask(struct request *r, void (*run)(struct errand *e, struct shelf *there, struct tape *t)) {
    struct str id = id_of(r);
    if (id.len != TAPE_ID_LEN) {
        resume_missing(r, SHELF_UNKNOWN);
        return;
    }
    struct question *q = xcalloc(1, sizeof *q);
    memcpy(q->errand.id.text, id.ptr, id.len);
    q->errand.tenant = r->resume->tenant;
    q->errand.anybody = r->worker->config->tape_read_by_id;
    q->errand.run = run;
    q->errand.on_back = on_back;
    q->errand.destroy = free_question;
    q->request = r;
    r->question = q;
    request_set_state(r, REQUEST_FOLLOWING);
    errand_send(&r->worker->shelf, &q->errand);
}

void tapes_forget_question(struct request *r) {
    if (r->question) {
        r->question->request = NULL;
        r->question = NULL;
    }
}

void tapes_status(struct request *r) { ask(r, run_status); }

void tapes_delete(struct request *r) {
    if (id_of(r).len != route_below(r).len) {
        request_error(r, 404, OUTCOME_REFUSED, NULL, NULL, "Below a tape there is nothing to delete.");
    } else if (resume_for_reading(r)) {
        ask(r, run_delete);
    }
}
