// SPDX-License-Identifier: MIT
// thaw probe: its arguments. What they mean is done in probing.c.
//
// What is secret stays so: nothing of a field's value, of a body, or of a query's credentials is shown, neither on the
// terminal nor in a report.
#include <errno.h>
#include <unistd.h>

#include "base/out.h"
#include "cmd/probing.h"
#include "cmd/verbs.h"
#include "config/address.h"

enum {
    USERS_MAX = 20 * 1000,
    BUDGET_MAX = 1000 * 1000,
    FILES_OURS = 64, // beside a connection for each call
    TEXT_CAP = 64 * 1024,
    BODY_CAP = 32 * 1024 * 1024,
};

struct probe_verb {
    struct probing probing;
    struct procedure_options procedure;
    const char *url;
    const char *method;
    const char *ca_file;
    const struct version *version; // asked for; NULL: the usual one
    struct field fields[QUESTION_FIELDS];
    struct fields sent;
    struct str host_field; // -H 'Host: ...'
    struct buf body;       // of -d, if it is set
    const char *body_file; // as -d @FILE named it
    bool has_body;
    bool bad_body;
    struct question question;
    struct url parts;
    char authority[AUTHORITY_TEXT];
    struct buf target;  // as shown
    struct buf command; // to run it again, as shown
};

static int wrong(const struct args_option *o, const char *value, const char *wanted) {
    return args_wrong("probe", o, value, wanted);
}

// A value that may be secret is not repeated.
static int wrong_secret(const struct args_option *o, const char *wanted) {
    fprintf(stderr, "thaw probe: --%s wants %s\n", o->name, wanted);
    return EXIT_USAGE;
}

// ---- versions of HTTP

// What curl calls them. Usual is what ALPN agrees on over TLS, and HTTP/1.1 without.
static const struct version {
    const char *option;
    const char *alpn;
    enum origin_speaks tls, plain;
    const char *refused; // without TLS; NULL: fine
} versions[] = {
    {"http1.1", "http/1.1", ORIGIN_H1, ORIGIN_H1, NULL},
    {"http2", "h2", ORIGIN_H2, ORIGIN_H2,
     "--http2 is for https://; without TLS it has to be known that the server speaks it: --http2-prior-knowledge"},
    {"http2-prior-knowledge", "h2", ORIGIN_H2, ORIGIN_H2, NULL},
};
static const struct version usual_version = {NULL, "h2,http/1.1", ORIGIN_ASK, ORIGIN_H1, NULL};
static const struct version h2c_version = {NULL, "h2", ORIGIN_H2, ORIGIN_H2, NULL};

static const struct version *version_of(const struct probe_verb *v) {
    return v->version ? v->version : v->parts.h2 ? &h2c_version : &usual_version;
}

static int take_version(void *options, const struct args_option *o, const char *value UNUSED) {
    struct probe_verb *v = options;
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        if (strcmp(o->name, versions[i].option) == 0) {
            if (v->version && v->version != &versions[i]) {
                fprintf(stderr, "thaw probe: --%s or --%s, not both\n", v->version->option, o->name);
                return EXIT_USAGE;
            }
            v->version = &versions[i];
        }
    }
    return EXIT_FINE;
}

// ---- taking them

static int take_url(void *options, const char *word) {
    struct probe_verb *v = options;
    if (v->url) {
        fprintf(stderr, "thaw probe: one URL at a time; '%s' is a second one\n",
                str_find(str_c(word), '?') ? "it" : "");
        return EXIT_USAGE;
    }
    v->url = word;
    return EXIT_FINE;
}

static int read_body(struct probe_verb *v, const char *path) {
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
    if (!f) {
        fprintf(stderr, "thaw probe: --data: cannot read %s: %s\n", path, strerror(errno));
        return EXIT_USAGE;
    }
    size_t n = 0;
    enum err e = OK;
    do {
        e = buf_reserve(&v->body, TEXT_CAP);
        n = e == OK ? fread(buf_tail(&v->body), 1, TEXT_CAP, f) : 0;
        buf_added(&v->body, n);
    } while (n);
    bool fine = e == OK && !ferror(f);
    if (f != stdin) {
        (void)fclose(f);
    }
    if (!fine) {
        fprintf(stderr, "thaw probe: --data: cannot read all of %s (at most 32 MB)\n", path);
    }
    return fine ? EXIT_FINE : EXIT_USAGE;
}

static int take_data(void *options, const struct args_option *o, const char *value) {
    struct probe_verb *v = options;
    if (v->has_body) {
        return wrong_secret(o, "to be given once");
    }
    v->has_body = true;
    if (value[0] == '@') {
        v->body_file = value;
        return read_body(v, value + 1);
    }
    return buf_append(&v->body, value, strlen(value)) == OK ? EXIT_FINE : wrong_secret(o, "less than 32 MB");
}

static int take_header(void *options, const struct args_option *o, const char *value) {
    struct probe_verb *v = options;
    struct str text = str_c(value);
    size_t colon = str_find(text, ':');
    if (colon == 0 || colon == text.len) {
        return wrong_secret(o, "a field as 'Name: value'");
    }
    struct str name = str_first(text, colon);
    struct str content = str_trim(str_skip(text, colon + 1));
    if (field_id(name) == FIELD_HOST) {
        v->host_field = content;
        return EXIT_FINE;
    }
    return fields_add(&v->sent, name, content) == OK ? EXIT_FINE : wrong_secret(o, "to be given at most 60 times");
}

static int take_method(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct probe_verb *)options)->method = value;
    return EXIT_FINE;
}

static int take_number(const struct args_option *o, const char *value, unsigned most, unsigned *to) {
    char text[48];
    uint64_t n = 0;
    if (parse_u64(str_c(value), &n) != OK || n == 0 || n > most) {
        snprintf(text, sizeof text, "a number from 1 to %u", most);
        return wrong(o, value, text);
    }
    *to = (unsigned)n;
    return EXIT_FINE;
}

static int take_users(void *options, const struct args_option *o, const char *value) {
    return take_number(o, value, USERS_MAX, &((struct probe_verb *)options)->procedure.users);
}
static int take_max(void *options, const struct args_option *o, const char *value) {
    return take_number(o, value, USERS_MAX, &((struct probe_verb *)options)->procedure.max_users);
}
static int take_budget(void *options, const struct args_option *o, const char *value) {
    return take_number(o, value, BUDGET_MAX, &((struct probe_verb *)options)->procedure.budget);
}
static int take_expect(void *options, const struct args_option *o, const char *value) {
    return take_number(o, value, USERS_MAX, &((struct probe_verb *)options)->probing.expect);
}

static int take_duration(const struct args_option *o, const char *value, uint64_t *ms) {
    if (parse_duration_ms(str_c(value), ms) != OK || *ms == 0) {
        return wrong(o, value, "a duration as 250ms, 5s or 2m");
    }
    return EXIT_FINE;
}

static int take_stagger(void *options, const struct args_option *o, const char *value) {
    uint64_t ms = 0;
    int code = take_duration(o, value, &ms);
    ((struct probe_verb *)options)->procedure.gap_ns = ms * 1000000;
    return code;
}

static int take_timeout(void *options, const struct args_option *o, const char *value) {
    struct probe_verb *v = options;
    int code = take_duration(o, value, &v->probing.probe.timeout_ms);
    v->probing.limit_ns = v->probing.probe.timeout_ms * 1000000;
    return code;
}

static int take_stream(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct probe_verb *)options)->probing.probe.stream = true;
    return EXIT_FINE;
}
static int take_verify(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct probe_verb *)options)->procedure.verify = true;
    return EXIT_FINE;
}
static int take_as_is(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct probe_verb *)options)->question.as_is = true;
    return EXIT_FINE;
}
static int take_json(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct probe_verb *)options)->probing.json = true;
    return EXIT_FINE;
}
static int take_ascii(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct probe_verb *)options)->probing.ascii = true;
    return EXIT_FINE;
}
static int take_mock(void *options, const struct args_option *o UNUSED, const char *value UNUSED) {
    ((struct probe_verb *)options)->probing.mock = true;
    return EXIT_FINE;
}

static int take_mock_listen(void *options, const struct args_option *o, const char *value) {
    struct str host;
    uint16_t port;
    if (config_listen_parse(str_c(value), &host, &port) != OK) {
        return wrong(o, value, "an address as 127.0.0.1:9000, :9000 or 9000");
    }
    ((struct probe_verb *)options)->probing.mock_listen = value;
    return EXIT_FINE;
}

static int take_mock_latency(void *options, const struct args_option *o, const char *value) {
    return take_duration(o, value, &((struct probe_verb *)options)->probing.mock_ms);
}

static int take_journal(void *options, const struct args_option *o, const char *value) {
    struct probing *p = &((struct probe_verb *)options)->probing;
    struct url url;
    const char *why = url_parse_h1(str_c(value), &url);
    if (why || url.tls) {
        return wrong_secret(o, "the URL of a thaw mock, as http://127.0.0.1:9000");
    }
    p->journal = value;
    p->journal_host = url.host;
    p->journal_port = url.port;
    return EXIT_FINE;
}

static int take_canary(void *options, const struct args_option *o, const char *value) {
    struct probing *p = &((struct probe_verb *)options)->probing;
    if (strcmp(value, "off") == 0) {
        p->probe.canary = STR("");
    } else if (value[0] == '/' && strpbrk(value, " \t\r\n") == NULL) {
        p->probe.canary = str_c(value);
    } else {
        return wrong(o, value, "a path as /healthz, or off");
    }
    return EXIT_FINE;
}

static int take_session(void *options, const struct args_option *o, const char *value) {
    struct probe_verb *v = options;
    v->question.session = str_c(value);
    v->procedure.sessions = true;
    return strpbrk(value, " \t\r\n;,=\"") || !*value ? wrong(o, value, "the name of a cookie, as PHPSESSID")
                                                     : EXIT_FINE;
}

static int take_report(void *options, const struct args_option *o, const char *value) {
    struct probing *p = &((struct probe_verb *)options)->probing;
    char wanted[120];
    write_report *write = probing_kind(value);
    if (!write) {
        snprintf(wanted, sizeof wanted, "a file that ends in %s", probing_kinds);
        return wrong(o, value, wanted);
    }
    if (p->report_count == REPORTS_MAX) {
        return wrong(o, value, "to be given at most 8 times");
    }
    p->reports[p->report_count].path = value;
    p->reports[p->report_count++].write = write;
    return EXIT_FINE;
}

static int take_seed(void *options, const struct args_option *o, const char *value) {
    struct probing *p = &((struct probe_verb *)options)->probing;
    return parse_u64(str_c(value), &p->probe.seed) == OK ? EXIT_FINE : wrong(o, value, "a number as 42");
}

static int take_ca(void *options, const struct args_option *o UNUSED, const char *value) {
    ((struct probe_verb *)options)->ca_file = value;
    return EXIT_FINE;
}

static const struct args_option probe_options[] = {
    {"data", 'd', "TEXT", "what is sent, or @FILE; makes it a POST", take_data},
    {"header", 'H', "FIELD", "'Name: value' to go along; may repeat", take_header},
    {"request", 'X', "METHOD", "the method (GET, or POST with -d)", take_method},
    {"users", 'n', "N", "one burst of so many, drawn", take_users},
    {"stagger", 0, "TIME", "with --users: one after another, so far apart", take_stagger},
    {"stream", 0, NULL, "look at first tokens and gaps", take_stream},
    {"max", 0, "N", "so many at once at most (256)", take_max},
    {"budget", 0, "N", "so many calls in all at most (600)", take_budget},
    {"timeout", 0, "TIME", "for a call (10m); also drawn", take_timeout},
    {"expect", 0, "N", "exit 1 if fewer are served at once", take_expect},
    {"verify", 0, NULL, "then calls at random, at 0.8 and 1.2 of its rate", take_verify},
    {"canary", 0, "PATH", "a cheap path, asked meanwhile; or off (/healthz ...)", take_canary},
    {"session", 0, "COOKIE", "a cookie of that name for each user", take_session},
    {"as-is", 0, NULL, "nothing is added to the path or the body", take_as_is},
    {"mock", 0, NULL, "start a mock to be the app's upstream", take_mock},
    {"mock-listen", 0, "ADDRESS", "where (127.0.0.1:9000)", take_mock_listen},
    {"mock-latency", 0, "TIME", "how long its answers take (1s)", take_mock_latency},
    {"journal", 0, "URL", "of the thaw mock that is the app's upstream", take_journal},
    {"report", 0, "FILE", "a report: .html .svg .json .md .xml; may repeat", take_report},
    {"json", 0, NULL, "the result as JSON on stdout", take_json},
    {"ascii", 0, NULL, "the picture without other characters", take_ascii},
    {"http1.1", 0, NULL, "HTTP/1.1, also where https:// offers more", take_version},
    {"http2", 0, NULL, "HTTP/2 over https://, or nothing", take_version},
    {"http2-prior-knowledge", 0, NULL, "HTTP/2 without TLS too, as h2c:// says", take_version},
    {"ca", 0, "FILE", "certificates to trust, as PEM (the system's)", take_ca},
    {"seed", 0, "N", "of what is up to chance (0)", take_seed},
};

// ---- what may be shown

static bool is_secret_name(struct str name) {
    static const struct str parts[] = {STR_INIT("key"),     STR_INIT("token"),  STR_INIT("secret"), STR_INIT("pass"),
                                       STR_INIT("auth"),    STR_INIT("sig"),    STR_INIT("cred"),   STR_INIT("prompt"),
                                       STR_INIT("session"), STR_INIT("cookie"), STR_INIT("code")};
    char lower[64];
    size_t n = MIN(name.len, sizeof lower);
    for (size_t i = 0; i < n; i++) {
        lower[i] = ascii_lower(name.ptr[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (str_search(str_from(lower, n), parts[i]) < n) {
            return true;
        }
    }
    return name.len > sizeof lower;
}

// A URL without the values of its query that look like credentials or prompts.
static void put_shown_url(struct out *o, struct str url) {
    size_t query = str_find(url, '?');
    struct str rest = str_skip(url, query + 1);
    struct str part;
    struct str before = STR("?");
    put(o, str_first(url, query));
    for (; query < url.len && str_split(&rest, '&', &part); before = STR("&")) {
        size_t equals = str_find(part, '=');
        bool hidden = is_secret_name(str_first(part, equals));
        put(o, before);
        put(o, hidden ? str_first(part, equals) : part);
        put(o, hidden && equals < part.len ? STR("=...") : STR(""));
    }
}

// As a shell reads it.
static void put_quoted(struct out *o, struct str s) {
    bool plain = s.len > 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = ascii_lower(s.ptr[i]);
        plain = plain && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("-_./:@,+%", c)));
    }
    if (plain) {
        put(o, s);
        return;
    }
    put_text(o, "'");
    struct str part;
    for (bool first = true; str_split(&s, '\'', &part); first = false) {
        put(o, first ? STR("") : STR("'\\''"));
        put(o, part);
    }
    put_text(o, "'");
}

// Values that say nothing about who asks or what.
static bool is_harmless(struct str name) {
    static const struct str names[] = {STR_INIT("content-type"), STR_INIT("accept"), STR_INIT("user-agent")};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_ieq(name, names[i])) {
            return true;
        }
    }
    return false;
}

static void put_shown_field(struct out *o, struct str field) {
    struct str name = str_first(field, str_find(field, ':'));
    char text[128];
    int n = snprintf(text, sizeof text, "%.*s: ...", STR_ARG(str_first(name, 100)));
    put_quoted(o, is_harmless(name) ? field : str_from(text, (size_t)n));
}

// The arguments as they were, without what is secret.
static void put_command(struct out *o, int argc, char **argv) {
    enum { PLAIN, BODY, FIELD } next = PLAIN;
    put_text(o, "thaw probe");
    for (int i = 0; i < argc; i++) {
        struct str a = str_c(argv[i]);
        size_t equals = str_find(a, '=');
        bool body = str_eq(a, STR("-d")) || str_eq(a, STR("--data"));
        bool field = str_eq(a, STR("-H")) || str_eq(a, STR("--header"));
        put_text(o, " ");
        if (next == BODY) {
            put_quoted(o, a.len && a.ptr[0] == '@' ? a : STR("..."));
        } else if (next == FIELD) {
            put_shown_field(o, a);
        } else if (str_starts(a, STR("--data=")) || str_starts(a, STR("--header="))) {
            put(o, str_first(a, equals + 1));
            put_text(o, "...");
        } else if (a.len && a.ptr[0] == '-') {
            put_quoted(o, a);
        } else {
            struct buf url;
            struct out shown = {&url, OK};
            buf_init(&url, TEXT_CAP);
            put_shown_url(&shown, a);
            put_quoted(o, buf_str(&url));
            o->e = o->e == OK ? shown.e : o->e;
            buf_finish(&url);
        }
        next = body ? BODY : field ? FIELD : PLAIN;
    }
}

// ---- what they mean together

static int take_apart(struct probe_verb *v) {
    struct str url = str_c(v->url);
    size_t start = str_search(url, STR("://")) + 3;
    size_t end = start + strcspn(v->url + MIN(start, url.len), "/?#");
    const char *why = end > url.len ? "must begin with http:// or https://" : url_parse(str_first(url, end), &v->parts);
    if (why) {
        const char *scheme = url_guess_scheme(url);
        fprintf(stderr, "thaw probe: the URL %s%s%s\n", why, scheme ? ", as in " : "", scheme ? scheme : "");
        return EXIT_USAGE;
    }
    struct str path = str_skip(url, end);
    path = str_first(path, str_find(path, '#'));
    v->question.target = path.len && path.ptr[0] == '/' ? path : STR("/");
    if (path.len && path.ptr[0] == '?') {
        fprintf(stderr, "thaw probe: the URL needs a path in front of its '?': http://host/?...\n");
        return EXIT_USAGE;
    }
    const struct version *version = version_of(v);
    if (!v->parts.tls && !v->parts.h2 && version->refused) {
        fprintf(stderr, "thaw probe: %s\n", version->refused);
        return EXIT_USAGE;
    }
    if (v->parts.h2 && version->plain == ORIGIN_H1) {
        fprintf(stderr, "thaw probe: h2c:// is HTTP/2: without --http1.1\n");
        return EXIT_USAGE;
    }
    v->question.authority = v->host_field.len
                                ? v->host_field
                                : str_c(authority_format(v->parts.tls, v->parts.host, v->parts.port, v->authority));
    return EXIT_FINE;
}

static bool has_field(const struct probe_verb *v, struct str name) {
    for (unsigned i = 0; i < v->sent.n; i++) {
        if (str_ieq(v->sent.v[i].name, name)) {
            return true;
        }
    }
    return false;
}

// What curl would leave to the user: JSON is said to be JSON.
static enum err add_usual_fields(struct probe_verb *v) {
    struct str body = buf_str(&v->body);
    bool is_json = body.len && (body.ptr[0] == '{' || body.ptr[0] == '[');
    enum err e = OK;
    if (v->has_body && !has_field(v, STR("Content-Type"))) {
        e = fields_add(&v->sent, STR("Content-Type"),
                       is_json ? STR("application/json") : STR("application/x-www-form-urlencoded"));
    }
    if (e == OK && !has_field(v, STR("User-Agent"))) {
        e = fields_add(&v->sent, STR("User-Agent"), STR("thaw-probe"));
    }
    if (e == OK && !has_field(v, STR("Accept"))) {
        e = fields_add(&v->sent, STR("Accept"), STR("*/*"));
    }
    return e;
}

static int make_question(struct probe_verb *v) {
    int code = take_apart(v);
    if (code) {
        return code;
    }
    struct question *q = &v->question;
    q->method = v->method ? str_c(v->method) : v->has_body ? STR("POST") : STR("GET");
    q->body = buf_str(&v->body);
    q->has_body = v->has_body;
    const char *why = add_usual_fields(v) == OK ? NULL : "at most 60 header fields";
    q->fields = v->sent;
    why = why ? why : question_check(q);
    if (why) {
        fprintf(stderr, "thaw probe: %s\n", why);
        return EXIT_USAGE;
    }
    return EXIT_FINE;
}

static int check_options(const struct probe_verb *v) {
    const struct {
        bool wrong;
        const char *why;
    } rules[] = {
        {!v->url, "which URL? As 'thaw probe http://localhost:8004/chat -d @prompt.json'"},
        {v->procedure.gap_ns && !v->procedure.users, "--stagger goes with --users N"},
        {v->procedure.users && v->procedure.max_users, "--users N is one burst of N: without --max"},
        {v->procedure.users && v->procedure.verify, "--verify goes with a search: without --users"},
        {v->probing.mock && v->probing.journal, "--mock starts a mock, --journal names one: not both"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (rules[i].wrong) {
            fprintf(stderr, "thaw probe: %s\n", rules[i].why);
            return EXIT_USAGE;
        }
    }
    return EXIT_FINE;
}

// Each call has a connection: of more than there are descriptors nothing can be said.
static int check_files(struct probe_verb *v, const struct machine *m) {
    unsigned most = m->files > FILES_OURS + 1 ? (unsigned)MIN(m->files - FILES_OURS, (uint64_t)USERS_MAX) : 1;
    unsigned wanted = MAX(v->procedure.users, MAX(v->procedure.max_users, v->probing.expect));
    if (v->procedure.users > most) {
        fprintf(stderr,
                "thaw probe: %u at once need as many descriptors, this process may open %u calls' (ulimit -n): the "
                "prober would be the limit\n",
                v->procedure.users, most);
        return EXIT_INCONCLUSIVE;
    }
    if (v->procedure.users && !v->procedure.budget) {
        v->procedure.budget = v->procedure.users + PROCEDURE_BUDGET; // it was asked for
    }
    v->probing.files_short = wanted > most || (most < PROCEDURE_MOST && !wanted);
    if (v->probing.files_short) {
        fprintf(stderr, "thaw probe: descriptors for %u calls at once (ulimit -n): no more are tried\n", most);
        v->procedure.max_users = most;
    } else if (v->probing.expect && !v->procedure.users) {
        v->procedure.max_users = MAX(v->procedure.max_users, wanted);
    }
    return EXIT_FINE;
}

// First, for nobody wants to hear after minutes that they cannot be written.
static int open_reports(struct probing *p) {
    for (unsigned i = 0; i < p->report_count; i++) {
        p->reports[i].file = fopen(p->reports[i].path, "wbe");
        if (!p->reports[i].file) {
            fprintf(stderr, "thaw probe: cannot write %s: %s\n", p->reports[i].path, strerror(errno));
            return EXIT_USAGE;
        }
    }
    return EXIT_FINE;
}

static int close_reports(struct probing *p, int code) {
    for (unsigned i = 0; i < p->report_count; i++) {
        if (p->reports[i].file && fclose(p->reports[i].file) != 0) {
            fprintf(stderr, "thaw probe: cannot write %s: %s\n", p->reports[i].path, strerror(errno));
            code = EXIT_UNREACHABLE;
        }
    }
    return code;
}

// ---- all of it

static int open_tls(struct probe_verb *v, struct tls_client **tls) {
    char problem[300];
    struct tls_client_options options = {.ca_file = v->ca_file, .alpn = version_of(v)->alpn};
    if (v->parts.tls && tls_client_create(&options, tls, problem, sizeof problem) != OK) {
        fprintf(stderr, "thaw probe: %s\n", problem);
        return EXIT_USAGE;
    }
    return EXIT_FINE;
}

static int probe(struct probe_verb *v, int argc, char **argv) {
    struct machine machine;
    struct tls_client *tls = NULL;
    struct out target = {&v->target, OK};
    struct out command = {&v->command, OK};
    machine_read(&machine, "", true);
    int code = check_files(v, &machine);
    code = code ? code : open_tls(v, &tls);
    code = code ? code : open_reports(&v->probing);
    put_shown_url(&target, str_c(v->url));
    put_command(&command, argc, argv);
    put(&command, str_from("", 1)); // ends it
    if (!code && (target.e != OK || command.e != OK)) {
        fprintf(stderr, "thaw probe: the arguments are too long\n");
        code = EXIT_USAGE;
    }
    if (!code) {
        struct probing *p = &v->probing;
        v->procedure.slower = p->mock;
        p->machine = &machine;
        p->target = buf_str(&v->target);
        p->command = buf_str(&v->command).ptr;
        p->probe.procedure = v->procedure;
        p->probe.question = &v->question;
        p->probe.host = v->parts.host;
        p->probe.port = v->parts.port;
        p->probe.tls = tls;
        p->probe.speaks = tls ? version_of(v)->tls : version_of(v)->plain;
        code = probing_run(p);
    }
    code = close_reports(&v->probing, code);
    tls_client_destroy(tls);
    return code;
}

static int run(const struct verb *verb, int argc, char **argv) {
    struct probe_verb v = {
        .probing = {.mock_listen = "127.0.0.1:9000", .mock_ms = 1000, .probe.timeout_ms = 10 * 60 * 1000},
    };
    bool go = false;
    v.sent = (struct fields){.v = v.fields, .cap = QUESTION_FIELDS};
    buf_init(&v.body, BODY_CAP);
    buf_init(&v.target, TEXT_CAP);
    buf_init(&v.command, BODY_CAP);
    int code = args_take(verb, argc, argv, &v, "", &go);
    if (!code && go) {
        code = check_options(&v);
        code = code ? code : make_question(&v);
        code = code ? code : probe(&v, argc, argv);
    }
    buf_finish(&v.body);
    buf_finish(&v.target);
    buf_finish(&v.command);
    return code;
}

const struct verb verb_probe = {
    .name = "probe",
    .summary = "how many users an app serves at once, and why",
    .usage = "URL [options]",
    .about = "Calls the URL alone, then at once in growing numbers, and says from who waits\n"
             "for whom how many are served at once and by which mechanism: a pool, a lock,\n"
             "cores, a rate, sessions. It says beforehand how many calls at most, and makes\n"
             "no more than it needs.\n"
             "\n"
             "{{nonce}} and {{user}} are filled in wherever they stand in the URL, -d and -H;\n"
             "a nonce is added to the prompt of a JSON body, or else to the query, so that\n"
             "no cache answers (--as-is: it is not).\n"
             "\n"
             "The surest way is a mock as the app's upstream (--mock, or thaw mock and\n"
             "--journal): then every call takes as long as the next, and its journal says\n"
             "who was served when.\n"
             "\n"
             "Exit code: 0 a verdict (and as many as expected), 1 fewer than --expect,\n"
             "2 wrong usage, 3 not reached, 4 inconclusive.",
    .example = "  thaw lab --cpus 2 --seconds 1 &\n"
               "  thaw probe http://localhost:8004/to_thread -X POST\n",
    .options = probe_options,
    .option_count = ARRAY_LEN(probe_options),
    .take_word = take_url,
    .run = run,
};
