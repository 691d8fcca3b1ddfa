// SPDX-License-Identifier: MIT
// The table of metrics: a row is a family, its HELP and TYPE, and what writes its samples. Names: those of OpenTelemetry's
// semantic conventions for generative AI and of Prometheus' client libraries where they have one, else thaw_*.
#include "admin/look.h"

struct sample {
    const struct look *look;
    const struct process *process;
    struct out *o;
    const char *name; // of the family
};

// ---- one sample

static void put_label_value(struct out *o, const char *value) {
    for (const char *c = value; *c; c++) {
        if (*c == '\\' || *c == '"') {
            put_text(o, "\\");
        }
        put(o, *c == '\n' ? STR("\\n") : str_from(c, 1));
    }
}

static void put_labels(struct out *o, const char *label, const char *value) {
    if (label) {
        put_format(o, "{%s=\"", label);
        put_label_value(o, value);
        put_text(o, "\"}");
    }
}

static void put_count(const struct sample *s, const char *label, const char *value, uint64_t n) {
    put_format(s->o, "%s", s->name);
    put_labels(s->o, label, value);
    put_text(s->o, " ");
    put_u64(s->o, n);
    put_text(s->o, "\n");
}

static void put_real(const struct sample *s, const char *label, const char *value, double n) {
    put_format(s->o, "%s", s->name);
    put_labels(s->o, label, value);
    put_format(s->o, " %.9g\n", n);
}

static void put_times(const struct sample *s, const char *label, const char *value, const struct times *t) {
    uint64_t sum = 0;
    for (unsigned b = 0; b <= HISTOGRAM_BUCKETS; b++) {
        sum += t->buckets[b];
        put_format(s->o, "%s_bucket{%s=\"", s->name, label);
        put_label_value(s->o, value);
        if (b < HISTOGRAM_BUCKETS) {
            put_format(s->o, "\",le=\"%.9g\"} ", (double)histogram_bound_ns(b) / 1e9);
        } else {
            put_text(s->o, "\",le=\"+Inf\"} ");
        }
        put_u64(s->o, sum);
        put_text(s->o, "\n");
    }
    put_format(s->o, "%s_sum", s->name);
    put_labels(s->o, label, value);
    put_format(s->o, " %.9g\n%s_count", (double)t->sum_ns / 1e9, s->name);
    put_labels(s->o, label, value);
    put_format(s->o, " %llu\n", (unsigned long long)sum);
}

// ---- what a family has

#define PLAIN(function, kind, member)                                                                                  \
    static void function(const struct sample *s) { put_##kind(s, NULL, NULL, s->look->member); }
#define OF_PROCESS(function, kind, member)                                                                             \
    static void function(const struct sample *s) { put_##kind(s, NULL, NULL, s->process->member); }
#define OF_UPSTREAMS(function, kind, value)                                                                            \
    static void function(const struct sample *s) {                                                                     \
        for (unsigned i = 0; i < s->look->upstream_count; i++) {                                                       \
            const struct look_upstream *u = &s->look->upstreams[i];                                                    \
            put_##kind(s, "upstream", u->name, value);                                                                 \
        }                                                                                                              \
    }

static void build_info(const struct sample *s) { put_count(s, "version", THAW_VERSION, 1); }
PLAIN(in_flight, count, in_flight)
PLAIN(connections, count, connections)
PLAIN(draining, count, draining)
PLAIN(generation, count, generation)
PLAIN(retries, count, retries)
PLAIN(fallbacks, count, fallbacks)
PLAIN(tapes, count, tapes)
OF_UPSTREAMS(upstream_in_flight, count, u->in_flight)
OF_UPSTREAMS(attempts, count, u->attempts)
OF_UPSTREAMS(failures, count, u->failures)
OF_UPSTREAMS(queued, count, u->gate.waiting)
OF_UPSTREAMS(oldest_queued, real, (double)u->gate.oldest_ms / 1e3)
OF_UPSTREAMS(limit, count, u->gate.limit)
OF_UPSTREAMS(breaker, count, (uint64_t)u->breaker)
OF_UPSTREAMS(duration, times, &u->duration)
OF_UPSTREAMS(first_byte, times, &u->first_byte)
OF_PROCESS(cpu, real, cpu_s)
OF_PROCESS(started, real, started_s)
OF_PROCESS(resident, count, resident)
OF_PROCESS(virtual_size, count, virtual_size)
OF_PROCESS(open_files, count, open_files)
OF_PROCESS(max_files, count, max_files)
OF_PROCESS(threads, count, threads)

static void reloads(const struct sample *s) {
    const struct reload_counts *r = &s->look->options->commons->reloads;
    put_count(s, "result", "accepted", count_of(&r->accepted));
    put_count(s, "result", "refused", count_of(&r->refused));
}

static void stalls(const struct sample *s) {
    put_count(s, NULL, NULL, count_of(&s->look->options->commons->stalls));
}

static void outcomes(const struct sample *s) {
    for (unsigned i = 0; i < OUTCOME_COUNT; i++) {
        put_count(s, "outcome", outcome_name((enum outcome)i), s->look->outcomes[i]);
    }
}

static void refused(const struct sample *s) {
    for (unsigned i = 0; i < LIMIT_COUNT; i++) {
        put_count(s, "limit", limit_name((enum limit)i), s->look->refused[i]);
    }
}

static void lag(const struct sample *s) {
    struct meters *meters = s->look->options->meters;
    for (unsigned i = 0; i < meters_workers(meters); i++) {
        char number[12];
        snprintf(number, sizeof number, "%u", i);
        put_real(s, "worker", number, (double)look_worker_lag_ns(meters_worker(meters, i)) / 1e9);
    }
}

static void bytes(const struct sample *s) {
    put_count(s, "direction", "in", s->look->bytes_in);
    put_count(s, "direction", "out", s->look->bytes_out);
}

static void bytes_per_call(const struct sample *s) {
    uint64_t more = s->process->resident - MIN(s->process->resident, s->look->resident_at_start);
    put_count(s, NULL, NULL, s->look->in_flight ? more / s->look->in_flight : 0);
}

static void tape_bytes(const struct sample *s) {
    struct shelves *shelves = s->look->options->shelves;
    put_count(s, NULL, NULL, shelves ? atomic_load_explicit(&shelves->finished_bytes, memory_order_relaxed) : 0);
}

static void overhead(const struct sample *s) {
    put_times(s, "stage", "before", &s->look->before);
    put_times(s, "stage", "after", &s->look->after);
}

static void put_logs(const struct sample *s, bool dropped) {
    const struct {
        const char *name;
        struct sink *sink;
    } logs[] = {{"access", s->look->options->access}, {"stderr", s->look->options->log}};
    for (size_t i = 0; i < ARRAY_LEN(logs); i++) {
        if (logs[i].sink) {
            struct sink_stats stats = sink_stats(logs[i].sink);
            put_count(s, "log", logs[i].name, dropped ? stats.dropped : stats.lines);
        }
    }
}
static void log_lines(const struct sample *s) { put_logs(s, false); }
static void log_dropped(const struct sample *s) { put_logs(s, true); }

// ---- the table

static const struct {
    const char *name;
    const char *type;
    const char *help;
    void (*put)(const struct sample *s);
} families[] = {
    {"gen_ai_server_request_duration_seconds", "histogram", "Calls whose answer came whole, from begin to end.",
     duration},
    {"gen_ai_server_time_to_first_token_seconds", "histogram",
     "From a call's begin to the first byte of its answer's body.", first_byte},
    {"thaw_overhead_seconds", "histogram",
     "Time in thaw itself, of every eighth call: before the request had been sent, after the answer's first bytes "
     "came.",
     overhead},
    {"thaw_in_flight", "gauge", "Requests that have begun and not ended.", in_flight},
    {"thaw_upstream_in_flight", "gauge", "Calls at an upstream.", upstream_in_flight},
    {"thaw_upstream_limit", "gauge", "Calls that an upstream gets at once; 0: no limit.", limit},
    {"thaw_queued", "gauge", "Calls that wait for their turn.", queued},
    {"thaw_oldest_queued_seconds", "gauge", "How long the one that came first has waited.", oldest_queued},
    {"thaw_outcomes_total", "counter", "Requests by how they ended.", outcomes},
    {"thaw_refused_total", "counter", "Requests that were refused, by the limit that was hit.", refused},
    {"thaw_attempts_total", "counter", "Requests sent to an upstream, or meant to be.", attempts},
    {"thaw_attempt_failures_total", "counter", "Those of them that failed.", failures},
    {"thaw_retries_total", "counter", "Attempts after the first, at the same upstream.", retries},
    {"thaw_fallbacks_total", "counter", "Attempts after the first, at another upstream.", fallbacks},
    {"thaw_breaker_state", "gauge",
     "0: closed, calls go through; 1: open, the upstream rests; 2: half open, one tries.", breaker},
    {"thaw_loop_lag_seconds", "gauge", "The longest time a worker was away from its loop in the last two seconds.",
     lag},
    {"thaw_connections", "gauge", "Clients' connections.", connections},
    {"thaw_bytes_total", "counter", "Bytes of bodies, from clients and to them.", bytes},
    {"thaw_bytes_per_call", "gauge", "Resident memory beyond that at the start, for each request in flight.",
     bytes_per_call},
    {"thaw_tapes", "gauge", "Answers that are being written.", tapes},
    {"thaw_tape_bytes", "gauge", "Bytes of answers that are kept.", tape_bytes},
    {"thaw_log_lines_total", "counter", "Lines taken by a log.", log_lines},
    {"thaw_log_dropped_total", "counter", "Lines that a log had no room for, or could not write.", log_dropped},
    {"thaw_config_generation", "gauge", "1, and one more with each reload.", generation},
    {"thaw_reloads_total", "counter", "Times the configuration was read again.", reloads},
    {"thaw_stalls_total", "counter", "Turns of a worker's loop that took more than half a second.", stalls},
    {"thaw_draining", "gauge", "1 while no new calls are taken.", draining},
    {"thaw_build_info", "gauge", "Always 1.", build_info},
    {"process_cpu_seconds_total", "counter", "Time on CPUs, user and system.", cpu},
    {"process_start_time_seconds", "gauge", "When the process began, in Unix time.", started},
    {"process_resident_memory_bytes", "gauge", "Resident memory.", resident},
    {"process_virtual_memory_bytes", "gauge", "Virtual memory.", virtual_size},
    {"process_open_fds", "gauge", "Open file descriptors.", open_files},
    {"process_max_fds", "gauge", "As many as there may be.", max_files},
    {"process_threads", "gauge", "Threads.", threads},
};

void metrics_put(const struct look *l, struct out *o) {
    struct process process;
    process_read(&process);
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        struct sample sample = {l, &process, o, families[i].name};
        put_format(o, "# HELP %s %s\n# TYPE %s %s\n", families[i].name, families[i].help, families[i].name,
                   families[i].type);
        families[i].put(&sample);
    }
}
