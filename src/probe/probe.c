// SPDX-License-Identifier: MIT
#include "probe/probe.h"

#include <assert.h>
#include <math.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "net/digest.h"
#include "probe/infer.h"

enum {
    CONNECT_MS = 10 * 1000, // of all there is; the timeout, if that is less
    REACH_MS = 5 * 1000,    // of each address
    SETTLE_MS = 1000,
    LEAD_MS = 10,
    LEAD_MOST_MS = 1000,
    CANARY_QUICK_MS = 1000,
    CANARY_ALONE = 3, // looks
    CANARY_MS = 50,
    CANARY_MOST_MS = 500,
    CANARY_PATH = 200,
    JOURNAL_MS = 30 * 1000,
};

enum probe_state {
    STATE_RESOLVING, // the first
    STATE_REACHING,
    STATE_CANARY,
    STATE_BEFORE, // the journal's calls until now
    STATE_TRYING,
    STATE_JOURNAL,
    STATE_OVER,
};

struct probe {
    struct loop *loop;
    struct probe_options options;
    enum probe_state state;
    enum probe_end end;
    struct dns_query query;
    struct address addresses[DNS_ADDRESSES_MAX];
    unsigned address_count, address_next;
    struct aim aim;
    struct shot shot; // reaching, and looking for a canary
    uint64_t connect_ns;
    char canary[CANARY_PATH];
    unsigned candidate; // of the canary's paths
    uint64_t looks_ns[CANARY_ALONE];
    unsigned looks;
    struct probe_journal journal;
    bool journal_missed;
    struct volley *volley;
    struct trial *trial; // done, waiting for its journal
    struct trial_plan plan;
    struct volley_notes notes;
    char shared_cookie[VOLLEY_NOTE + NONCE_TEXT]; // "name=value"
    struct evidence evidence;
    unsigned room; // of evidence.trials
    struct verdict verdict;
    uint32_t run;
    uint64_t start_ns;
    uint64_t cpu_ns;  // spent before the start
    struct task next; // what was put off: thinking, the end
};

static void probe_set_state(struct probe *p, enum probe_state state) {
    assert(p->state != STATE_OVER);
    p->state = state;
    task_cancel(&p->next);
}

static uint64_t now_ns(const struct probe *p) { return p->loop->clock->now_ns(p->loop->clock); }

static void keep(char to[VOLLEY_NOTE], const char *text) {
    if (!to[0]) {
        snprintf(to, VOLLEY_NOTE, "%s", text);
    }
}

// ---- our own health

static uint64_t cpu_now_ns(void) {
    struct rusage u = {0};
    (void)getrusage(RUSAGE_SELF, &u);
    return ((uint64_t)u.ru_utime.tv_sec + (uint64_t)u.ru_stime.tv_sec) * 1000000000 +
           ((uint64_t)u.ru_utime.tv_usec + (uint64_t)u.ru_stime.tv_usec) * 1000;
}

// Thinking does not count: nothing is measured meanwhile.
static void note_cpu(struct probe *p, uint64_t cpu_ns, uint64_t wall_ns) {
    double share = wall_ns ? (double)cpu_ns / (double)wall_ns : 0;
    p->evidence.cpu_share = MAX(p->evidence.cpu_share, share);
}

// ---- the end

static void on_over(struct task *task) {
    struct probe *p = container_of(task, struct probe, next);
    p->options.on_over(p->options.owner);
}

static void finish(struct probe *p, enum probe_end end) {
    p->end = end;
    probe_set_state(p, STATE_OVER);
    p->next.run = on_over;
    loop_defer(p->loop, &p->next);
}

static void keep_trial(struct probe *p, struct trial *t) {
    if (p->evidence.count == p->room) {
        unsigned room = p->room ? 2 * p->room : 16;
        struct trial **more = xcalloc(room, sizeof(struct trial *));
        if (p->evidence.count) {
            memcpy(more, p->evidence.trials, p->evidence.count * sizeof(struct trial *));
        }
        free(p->evidence.trials);
        p->evidence.trials = more;
        p->room = room;
    }
    p->evidence.trials[p->evidence.count++] = t;
}

// ---- a trial

static void think_on(struct probe *p);

static unsigned answered(const struct trial *t) {
    unsigned n = 0;
    for (unsigned i = 0; i < t->plan.calls; i++) {
        n += t->calls[i].error == OK && t->calls[i].status >= 200 && t->calls[i].status < 300;
    }
    return n;
}

// A first call that does not succeed alone: what would be measured is how it fails.
static bool is_hopeless(struct probe *p) {
    const struct trial *t = p->evidence.trials[0];
    if (p->evidence.count > 1 || answered(t) > 0) {
        return false;
    }
    bool silent = true;
    for (unsigned i = 0; i < t->plan.calls; i++) {
        silent = silent && t->calls[i].status == 0;
    }
    finish(p, silent ? PROBE_UNREACHABLE : PROBE_REFUSED);
    return true;
}

static void trial_known(struct probe *p) {
    keep_trial(p, p->trial);
    p->trial = NULL;
    if (!is_hopeless(p)) {
        think_on(p);
    }
}

static void on_journal(void *owner, enum err e) {
    struct probe *p = owner;
    unsigned found = e == OK ? probe_journal_match(&p->journal, p->start_ns, p->trial) : 0;
    if (e != OK) {
        keep(p->notes.problem, "the mock's journal cannot be read");
    }
    p->journal_missed = p->journal_missed || found < answered(p->trial);
    p->evidence.journal = !p->journal_missed;
    trial_known(p);
}

static void on_trial(void *owner) {
    struct probe *p = owner;
    const struct volley_notes *notes = volley_notes(p->volley);
    keep(p->notes.problem, notes->problem);
    keep(p->notes.location, notes->location);
    keep(p->notes.cookie, notes->cookie);
    p->notes.bad_status = p->notes.bad_status ? p->notes.bad_status : notes->bad_status;
    p->trial = volley_end(p->volley);
    p->volley = NULL;
    note_cpu(p, cpu_now_ns() - p->cpu_ns, p->trial->to_ns - p->trial->from_ns);
    p->evidence.calls_spent += p->trial->plan.calls;
    if (p->plan.kind == TRIAL_SLOWER && p->options.slow_down) {
        p->options.slow_down(p->options.owner, 1);
    }
    if (!p->options.journal || p->journal_missed) {
        trial_known(p);
        return;
    }
    probe_set_state(p, STATE_JOURNAL);
    probe_journal_fetch(&p->journal, on_journal, p);
}

static void on_progress(void *owner) {
    struct probe *p = owner;
    if (p->options.on_progress) {
        p->options.on_progress(p->options.owner);
    }
}

// How often the canary is looked at: twenty times while a call takes, within reason.
static uint64_t canary_ms(const struct probe *p) {
    uint64_t ms = p->verdict.solo_ns / 1000000 / 20;
    return MIN(MAX(ms, (uint64_t)CANARY_MS), (uint64_t)CANARY_MOST_MS);
}

// What the calls of one session have in common: a cookie of the user's choice, or the one that the app has set itself.
static void make_shared_cookie(struct probe *p) {
    struct str name = p->options.question->session;
    char text[NONCE_TEXT];
    struct str value = nonce_format(nonce_make(p->run, 0), text);
    if (name.len) {
        snprintf(p->shared_cookie, sizeof p->shared_cookie, "%.*s=%.*s", STR_ARG(name), STR_ARG(value));
    } else {
        snprintf(p->shared_cookie, sizeof p->shared_cookie, "%s", p->notes.cookie);
    }
}

static void try_it(struct probe *p) {
    uint64_t connect_ms = p->connect_ns / 1000000;
    struct volley_setup setup = {
        .aim = p->aim,
        .question = p->options.question,
        .start_ns = p->start_ns,
        .run = p->run,
        .calls_before = p->evidence.calls_spent,
        .stream = p->options.stream,
        .connect_ms = MIN(p->options.timeout_ms, (uint64_t)CONNECT_MS),
        .timeout_ms = p->options.timeout_ms,
        .settle_ms = SETTLE_MS,
        .lead_ms = MIN(LEAD_MS + 2 * connect_ms, (uint64_t)LEAD_MOST_MS),
        .seed = p->options.seed + p->evidence.count,
        .canary_path = str_c(p->canary),
        .canary_ms = canary_ms(p),
        .on_progress = on_progress,
    };
    make_shared_cookie(p);
    setup.shared_cookie = str_c(p->shared_cookie);
    probe_set_state(p, STATE_TRYING);
    if (p->plan.kind == TRIAL_SLOWER && p->options.slow_down) {
        p->options.slow_down(p->options.owner, 2);
    }
    p->cpu_ns = cpu_now_ns();
    p->volley = volley_start(&setup, &p->plan, on_trial, p);
    on_progress(p);
}

// What the app's own answers have shown may be used: its cookie makes a session.
static struct procedure_options procedure_now(const struct probe *p) {
    struct procedure_options o = p->options.procedure;
    bool given = fields_find(&p->options.question->fields, FIELD_COOKIE) != NULL;
    o.sessions = o.sessions || (p->notes.cookie[0] && !given);
    o.slower = o.slower && p->options.slow_down;
    return o;
}

static void think_on(struct probe *p) {
    struct procedure_options o = procedure_now(p);
    if (procedure_next(&p->evidence, &o, &p->verdict, &p->plan)) {
        try_it(p);
    } else {
        finish(p, PROBE_DECIDED);
    }
}

// ---- before the first trial

// A journal that was asked for and is not there is a wrong address, better known now than after all the calls.
static void on_before(void *owner, enum err e) {
    struct probe *p = owner;
    if (e == OK) {
        (void)probe_journal_match(&p->journal, p->start_ns, NULL);
        think_on(p);
        return;
    }
    snprintf(p->notes.problem, sizeof p->notes.problem, "the journal: %.*s", VOLLEY_NOTE - 20,
             p->journal.shot.problem[0] ? p->journal.shot.problem : "no mock answers there");
    finish(p, PROBE_UNREACHABLE);
}

static void look_at_journal(struct probe *p) {
    if (!p->options.journal) {
        think_on(p);
        return;
    }
    probe_set_state(p, STATE_BEFORE);
    p->journal.aim = p->options.journal_aim;
    p->journal.authority = p->options.journal_authority;
    p->journal.timeout_ms = JOURNAL_MS;
    probe_journal_fetch(&p->journal, on_before, p);
}

// ---- the canary

static const char *const usual_paths[] = {"/healthz", "/health", "/"};

static void look_for_canary(struct probe *p);
static void reach(struct probe *p);

// A shot that has just told of its end is not used again in the same breath.
static void on_step(struct task *task) {
    struct probe *p = container_of(task, struct probe, next);
    if (p->state == STATE_REACHING) {
        reach(p);
    } else {
        look_for_canary(p);
    }
}

static void step_later(struct probe *p) {
    p->next.run = on_step;
    loop_defer(p->loop, &p->next);
}

static int by_size(const void *a, const void *b) {
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

// Whatever / says shows that the site is alive, but for an error; elsewhere it has to be there.
static bool is_canary(const struct probe *p, const struct shot *s) {
    bool anything = p->options.canary.ptr || strcmp(p->canary, "/") == 0;
    return s->error == OK && s->status >= 200 && s->status < (anything ? 500 : 400);
}

static void on_canary_over(struct shot *s) {
    struct probe *p = container_of(s, struct probe, shot);
    if (!is_canary(p, s)) {
        p->canary[0] = '\0';
        p->candidate++;
        p->looks = 0;
    } else {
        p->looks_ns[p->looks++] = s->end_ns - s->began_ns;
    }
    step_later(p);
}

static void on_canary_loaded(struct shot *s) { shot_release(s); }
static const struct shot_events canary_events = {.on_loaded = on_canary_loaded, .on_over = on_canary_over};

// The path to look at now; false: there is no other.
static bool choose_canary(struct probe *p) {
    struct str asked = target_path(p->options.question->target);
    struct str path = p->options.canary;
    if (path.ptr) {
        snprintf(p->canary, sizeof p->canary, "%.*s", STR_ARG(path));
        return p->candidate == 0 && path.len > 0;
    }
    while (p->candidate < ARRAY_LEN(usual_paths) && str_eq(asked, str_c(usual_paths[p->candidate]))) {
        p->candidate++; // what is slow is no canary
    }
    if (p->candidate < ARRAY_LEN(usual_paths)) {
        snprintf(p->canary, sizeof p->canary, "%s", usual_paths[p->candidate]);
    }
    return p->candidate < ARRAY_LEN(usual_paths);
}

static void look_for_canary(struct probe *p) {
    if (p->looks == CANARY_ALONE) {
        qsort(p->looks_ns, CANARY_ALONE, sizeof p->looks_ns[0], by_size);
        p->evidence.canary_alone_ns = p->looks_ns[CANARY_ALONE / 2];
        look_at_journal(p);
        return;
    }
    if (!choose_canary(p)) {
        p->canary[0] = '\0';
        look_at_journal(p);
        return;
    }
    p->shot = (struct shot){.events = &canary_events, .connect_ms = CANARY_QUICK_MS, .timeout_ms = CANARY_QUICK_MS};
    p->shot.head = canary_request(p->options.question->authority, str_c(p->canary));
    if (!p->shot.head) {
        p->canary[0] = '\0';
        look_at_journal(p);
        return;
    }
    shot_start(&p->shot, &p->aim);
}

// ---- reaching it: a connection, and nothing said

static bool is_local(const struct address *a) {
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (a->sa.sa_family == AF_INET) {
        return ntohl(a->v4.sin_addr.s_addr) >> 24 == 127;
    }
    const unsigned char *bytes = a->v6.sin6_addr.s6_addr;
    return IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr) || (memcmp(bytes, mapped, sizeof mapped) == 0 && bytes[12] == 127);
}

static void on_reached(struct shot *s) {
    struct probe *p = container_of(s, struct probe, shot);
    p->connect_ns = s->loaded_ns - s->began_ns;
    p->evidence.local = is_local(&p->aim.address);
    shot_close(s);
    p->notes.problem[0] = '\0'; // of addresses before this one
    probe_set_state(p, STATE_CANARY);
    step_later(p);
}

static void on_unreached(struct shot *s) {
    struct probe *p = container_of(s, struct probe, shot);
    keep(p->notes.problem, s->problem);
    step_later(p);
}

static const struct shot_events reach_events = {.on_loaded = on_reached, .on_over = on_unreached};

static void reach(struct probe *p) {
    if (p->address_next == p->address_count) {
        finish(p, PROBE_UNREACHABLE);
        return;
    }
    p->aim.address = p->addresses[p->address_next++];
    p->shot = (struct shot){
        .events = &reach_events,
        .connect_ms = MIN(p->options.timeout_ms, (uint64_t)REACH_MS),
    };
    shot_start(&p->shot, &p->aim);
}

// ---- resolving it

static void resolved(struct probe *p, enum err e, const struct address *addresses, unsigned count) {
    if (e != OK) {
        snprintf(p->notes.problem, sizeof p->notes.problem, "resolve %.*s: %s",
                 STR_ARG(str_first(p->options.host, 100)), p->query.problem ? p->query.problem : err_text(e));
        finish(p, PROBE_UNREACHABLE);
        return;
    }
    p->address_count = MIN(count, (unsigned)DNS_ADDRESSES_MAX);
    if (addresses != p->addresses) {
        memcpy(p->addresses, addresses, p->address_count * sizeof *addresses);
    }
    probe_set_state(p, STATE_REACHING);
    reach(p);
}

static void on_resolved(struct dns_query *q, enum err e, const struct address *addresses, unsigned count) {
    resolved(container_of(q, struct probe, query), e, addresses, count);
}

// ---- asked from outside

struct probe *probe_start(struct loop *loop, struct dns *dns, const struct probe_options *options) {
    struct probe *p = xcalloc(1, sizeof *p);
    unsigned count = 0;
    p->loop = loop;
    p->options = *options;
    p->aim = (struct aim){.loop = loop, .tls = options->tls, .host = options->host, .speaks = options->speaks};
    p->aim.h2 = options->speaks == ORIGIN_H1 ? NULL : shot_side_create(loop);
    p->evidence.cpus = options->cpus;
    p->verdict.best.model = p->verdict.runner_up.model = p->verdict.likely.model = PROBE_INCONCLUSIVE;
    random_bytes(&p->run, sizeof p->run);
    p->start_ns = now_ns(p);
    p->query.on_resolved = on_resolved;
    enum err e = dns_resolve(dns, &p->query, options->host, options->port, p->addresses, &count);
    if (e != ERR_AGAIN) {
        resolved(p, e, p->addresses, count);
    }
    return p;
}

static void drop_all(struct probe *p) {
    dns_cancel(&p->query);
    shot_close(&p->shot);
    probe_journal_close(&p->journal);
    if (p->volley) {
        trial_destroy(p->trial);
        p->trial = volley_end(p->volley);
        p->volley = NULL;
    }
}

void probe_stop(struct probe *p) {
    if (p->state == STATE_OVER) {
        return;
    }
    drop_all(p);
    // Half a trial says less than none, but where there is nothing else.
    bool wanted = p->trial && (p->state == STATE_JOURNAL || (p->evidence.count <= 1 && answered(p->trial)));
    if (wanted) {
        keep_trial(p, p->trial);
    } else {
        trial_destroy(p->trial);
    }
    p->trial = NULL;
    if (p->evidence.count) {
        infer(&p->evidence, p->options.seed, &p->verdict);
    }
    finish(p, PROBE_STOPPED);
}

void probe_destroy(struct probe *p) {
    if (!p) {
        return;
    }
    drop_all(p);
    trial_destroy(p->trial);
    task_cancel(&p->next);
    for (unsigned i = 0; i < p->evidence.count; i++) {
        trial_destroy(p->evidence.trials[i]);
    }
    free(p->evidence.trials);
    shot_side_destroy(p->aim.h2);
    free(p);
}

struct probe_look probe_look(const struct probe *p) {
    return (struct probe_look){
        .end = p->end,
        .evidence = &p->evidence,
        .verdict = &p->verdict,
        .plan = p->volley ? &p->plan : NULL,
        .counts = p->volley ? volley_counts(p->volley) : (struct volley_counts){0},
        .canary = p->canary,
        .problem = p->notes.problem,
        .location = p->notes.location,
        .bad_status = p->notes.bad_status,
        .journal_missed = p->journal_missed,
    };
}
