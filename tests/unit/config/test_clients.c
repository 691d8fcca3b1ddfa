// SPDX-License-Identifier: MIT
// Clients with keys of their own, what they may do, and where administration is.
#include "base/mem.h"
#include "reading.h"

#define UPSTREAM "upstreams: {a: {url: mock}}\n"

// ---- Clients

static void clients_have_defaults(void **state UNUSED) {
    struct config *c = read_config("clients: {a: {keys: one}}");
    const struct config_client *a = &c->clients[0];
    check_int(c->client_count, 1);
    check_str(a->name, "a");
    check_int(a->key_count, 1);
    check_str(a->keys[0].secret, "one");
    check_int(a->weight, 1);
    check_int(a->priority, 0);
    check_int(a->limits.requests_per_minute + a->limits.tokens_per_minute + a->limits.in_flight + a->own, 0);
    config_unref(c);
}

static void clients_have_all_their_members(void **state UNUSED) {
    struct config *c =
        read_config("clients:\n"
                    "  chatbot:\n"
                    "    keys: [\"${CHATBOT_KEY}\", second]\n"
                    "    weight: 100\n"
                    "    priority: 9\n"
                    "    limits: {requests_per_minute: 60, tokens_per_minute: 5000000000, in_flight: 7}\n"
                    "  nightly: {keys: third}\n");
    const struct config_client *chatbot = &c->clients[0];
    check_int(c->client_count, 2);
    check_int(chatbot->key_count, 2);
    check_str(chatbot->keys[0].secret, "client-secret-2");
    check_str(chatbot->keys[1].secret, "second");
    check_int(chatbot->weight, 100);
    check_int(chatbot->priority, 9);
    check_int(chatbot->limits.requests_per_minute, 60);
    check_int(chatbot->limits.tokens_per_minute, 5000000000);
    check_int(chatbot->limits.in_flight, 7);
    check_int(chatbot->own, OWN_LIMIT_REQUESTS | OWN_LIMIT_TOKENS | OWN_LIMIT_IN_FLIGHT);
    check_str(c->clients[1].name, "nightly");
    config_unref(c);
}

static void clients_follow_the_general_limits_wherever_they_stand(void **state UNUSED) {
    struct config *c = read_config("clients: {a: {keys: a, limits: {in_flight: 0}}, b: {keys: b, limits: }}\n"
                                   "limits: {requests_per_minute: 10, tokens_per_minute: 20, in_flight: 30}\n");
    struct config_problem problem;
    check_int(c->clients[0].limits.requests_per_minute, 10);
    check_int(c->clients[0].limits.tokens_per_minute, 20);
    check_int(c->clients[0].limits.in_flight, 0); // its own: as many as it likes
    check_int(c->clients[0].own, OWN_LIMIT_IN_FLIGHT);
    check_int(c->clients[1].limits.in_flight, 30);
    check_ok(config_set(c, "limits.in_flight", "31", &problem)); // by an option, later
    check_int(c->limits.in_flight, 31);
    check_int(c->clients[0].limits.in_flight, 0);
    check_int(c->clients[1].limits.in_flight, 31);
    config_unref(c);
}

static void wrong_clients_are_explained(void **state UNUSED) {
    check_refused("clients: {a: {weight: 2}}", "t.yaml:1:11: 'clients.a' needs the key 'keys'");
    check_refused("clients: {a: }", "t.yaml:1:11: 'clients.a' needs the key 'keys'");
    check_refused("clients: {}", "t.yaml:1:10: 'clients' is empty: give it an entry or leave it out");
    check_refused("clients: {a: {keys: []}}",
                  "t.yaml:1:21: 'clients.a.keys' is empty: give it an entry or leave it out");
    check_refused("clients: {a: {keys: k, weight: 0}}",
                  "t.yaml:1:32: 'clients.a.weight' must be a number from 1 to 100, not '0'");
    check_refused("clients: {a: {keys: k, weight: 101}}",
                  "t.yaml:1:32: 'clients.a.weight' must be a number from 1 to 100, not '101'");
    check_refused("clients: {a: {keys: k, priority: 10}}",
                  "t.yaml:1:34: 'clients.a.priority' must be a number from 0 to 9, not '10'");
    check_refused("clients: {a: {keys: k, limits: {in_flight: auto}}}",
                  "t.yaml:1:44: 'clients.a.limits.in_flight' must be a number from 0 to 1000000, not 'auto'");
    check_refused("clients: {a: {keys: k, limit: {}}}",
                  "t.yaml:1:24: unknown key 'clients.a.limit'; did you mean 'limits'?");
    check_refused("clients: {a: {key: k}}", "t.yaml:1:15: unknown key 'clients.a.key'; did you mean 'keys'?");
    check_refused("clients: {a: {keys: two words}}",
                  "t.yaml:1:21: 'clients.a.keys' contains a blank, a line end or another control character");
    check_refused("clients: {a: {keys: k}, a: {keys: l}}",
                  "t.yaml:1:25: 'a' is there twice; the first one is on line 1");
}

static void clients_are_a_matter_of_files(void **state UNUSED) {
    struct config *c = config_create();
    struct config_problem problem;
    check_err(config_set(c, "clients.a.weight", "2", &problem), ERR_INVALID);
    assert_string_equal(problem.text, "'clients' can only be set in a file");
    config_unref(c);
}

// ---- Files of secrets

static void client_keys_come_from_a_file(void **state UNUSED) {
    char path[64];
    char text[128];
    make_file(path, "first\nsecond\n", 0600);
    snprintf(text, sizeof text, "clients: {a: {keys: [zero, file:%s]}}", path);
    struct config *c = read_config(text);
    check_int(c->clients[0].key_count, 3);
    check_str(c->clients[0].keys[2].secret, "second");
    config_unref(c);
    unlink(path);
}

// Every key that holds secrets; and the certificates of `ca_file`, which are none, may be anybody's to read.
static void file_of_secrets_is_its_owners_alone(void **state UNUSED) {
    static const struct {
        const char *begin, *end, *message;
    } keys[] = {
        {"keys: file:", "", "t.yaml:1:7: keys: "},
        {"keys: [a, file:", "]", "t.yaml:1:11: keys[1]: "},
        {"clients: {a: {keys: file:", "}}", "t.yaml:1:21: clients.a.keys: "},
        {"upstreams: {a: {url: http://a, key: file:", "}}", "t.yaml:1:37: upstreams.a.key: "},
    };
    static const unsigned modes[] = {0640, 0604, 0620, 0602, 0610, 0601, 0666};
    char path[64];
    make_file(path, "secret\n", 0600);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        char text[160];
        char wanted[256];
        snprintf(text, sizeof text, "%s%s%s", keys[i].begin, path, keys[i].end);
        for (size_t j = 0; j < ARRAY_LEN(modes); j++) {
            check_int(chmod(path, modes[j]), 0);
            snprintf(wanted, sizeof wanted, "%s%s is open to other users (mode %04o): chmod 600 it", keys[i].message,
                     path, modes[j]);
            check_refused(text, wanted);
        }
        check_int(chmod(path, 0400), 0);
        config_unref(read_config(text));
    }
    char text[160];
    check_int(chmod(path, 0644), 0);
    snprintf(text, sizeof text, "upstreams: {a: {url: https://a, ca_file: %s}}", path);
    config_unref(read_config(text));
    unlink(path);
}

// ---- No key twice

static void key_stands_once(void **state UNUSED) {
    check_whole(UPSTREAM "keys: [a, b, c]\nclients: {x: {keys: [d, aa]}, y: {keys: [e, bb]}}", "");
    check_whole(UPSTREAM "keys: [hunter2, b, hunter2]", "'keys' has the same key twice");
    check_whole(UPSTREAM "clients: {x: {keys: [a, a]}}", "'clients.x.keys' has the same key twice");
    check_whole(UPSTREAM "keys: [a, b]\nclients: {x: {keys: [c, b]}}",
                "'keys' has a key that is also in 'clients.x.keys': a key is one client's");
    for (unsigned turn = 0; turn < 2; turn++) {
        check_whole(turn ? UPSTREAM "clients: {x: {keys: [z, b]}, y: {keys: [c, z]}}"
                         : UPSTREAM "clients: {x: {keys: [b, z]}, y: {keys: [z, c]}}",
                    "'clients.x.keys' has a key that is also in 'clients.y.keys': a key is one client's");
    }
}

static void key_of_a_file_and_of_a_variable_may_be_the_same_too(void **state UNUSED) {
    char path[64];
    char text[160];
    make_file(path, "other\nclient-secret-1\n", 0600);
    snprintf(text, sizeof text, UPSTREAM "keys: \"${THAW_KEY}\"\nclients: {x: {keys: file:%s}}", path);
    check_whole(text, "'keys' has a key that is also in 'clients.x.keys': a key is one client's");
    unlink(path);
}

// ---- Doors

static void keys_of_clients_shut_the_door_too(void **state UNUSED) {
    struct config *c = read_config("clients: {x: {keys: a}}");
    struct config *none = read_config("");
    struct config *general = read_config("keys: a");
    check(config_has_keys(c) && config_has_keys(general) && !config_has_keys(none));
    config_unref(c);
    config_unref(none);
    config_unref(general);
    check_whole("listen: :1\nclients: {x: {keys: a}}\nupstreams: {a: {url: http://a, key: k}}", "");
    check_whole("cors: [\"*\"]\nclients: {x: {keys: a}}\nupstreams: {a: {url: http://a, key: k}}", "");
}

static void admin_has_its_place(void **state UNUSED) {
    struct config *c = config_create();
    struct config_problem problem;
    check_str(c->admin, "127.0.0.1:8081");
    check(!c->admin_asked);
    check_err(config_set(c, "admin", "nonsense", &problem), ERR_INVALID);
    check(!c->admin_asked);
    check_ok(config_set(c, "admin", "127.0.0.1:8081", &problem));
    check(c->admin_asked);
    config_unref(c);
    c = read_config("admin: \"[::1]:9\"");
    check_str(c->admin, "[::1]:9");
    check(c->admin_asked);
    config_unref(c);
    c = read_config("admin: Off");
    check_str(c->admin, "off");
    config_unref(c);
    check_refused("admin: here", "t.yaml:1:8: 'admin' needs a port, as in 127.0.0.1:8080, [::1]:8080 or :8080");
    check_refused("admin: [off]", "t.yaml:1:8: 'admin' must be an address and port, or off, not a list");
}

static void admin_beyond_loopback_needs_keys(void **state UNUSED) {
    static const char message[] = "'admin' beyond loopback needs 'keys': who presents one of them may administer thaw; "
                                  "those of 'clients' do not do";
    check_whole(UPSTREAM "admin: :9", message);
    check_whole(UPSTREAM "admin: 10.0.0.1:9\nopen: true", message);
    check_whole(UPSTREAM "admin: box:9\nclients: {x: {keys: a}}", message);
    check_whole(UPSTREAM "admin: :9\nkeys: a", "");
    check_whole(UPSTREAM "admin: localhost:9", "");
    check_whole(UPSTREAM "admin: \"[::1]:9\"", "");
    check_whole(UPSTREAM "admin: off", "");
}

static void admin_is_not_where_clients_are(void **state UNUSED) {
    static const char message[] = "'admin' is where 'listen' is: give it a port of its own, or off";
    check_whole(UPSTREAM "admin: 8080", message);
    check_whole(UPSTREAM "listen: localhost:1\nadmin: LOCALHOST:1", message);
    check_whole(UPSTREAM "listen: :1\nadmin: 127.0.0.1:1", message);
    check_whole(UPSTREAM "listen: 0.0.0.0:1\nadmin: 127.0.0.1:1", message);
    check_whole(UPSTREAM "keys: k\nlisten: 127.0.0.1:1\nadmin: \"[::]:1\"", message);
    check_whole(UPSTREAM "listen: 127.0.0.2:1\nadmin: 127.0.0.1:1", "");
    check_whole(UPSTREAM "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0", ""); // the system chooses two
    check_whole(UPSTREAM "listen: 127.0.0.1:8081", "");                  // nobody asked for an admin there
    check_whole(UPSTREAM "listen: 127.0.0.1:8081\nadmin: off", "");
}

// ---- Failing allocations

static void read_and_check(void *arg UNUSED) {
    struct config *c;
    struct config_problem problem;
    enum err e = config_read_text("t.yaml",
                                  STR(UPSTREAM "keys: [a, b]\nclients: {x: {keys: [c, d]}, y: {keys: e}}\nadmin: off\n"
                                               "access_log: off\n"),
                                  test_environment, NULL, &c, &problem);
    check(e == OK || e == ERR_NOMEM);
    if (e == OK) {
        e = config_check(c, &problem);
        check(e == OK || e == ERR_NOMEM);
    }
    check((e == OK) == (problem.text[0] == '\0'));
    config_unref(c);
}

static void clients_survive_failing_allocations(void **state UNUSED) {
    check(every_allocation_fails(read_and_check, NULL) > 0);
}

TESTS(TEST(clients_have_defaults), TEST(clients_have_all_their_members),
      TEST(clients_follow_the_general_limits_wherever_they_stand), TEST(wrong_clients_are_explained),
      TEST(clients_are_a_matter_of_files), TEST(client_keys_come_from_a_file),
      TEST(file_of_secrets_is_its_owners_alone), TEST(key_stands_once),
      TEST(key_of_a_file_and_of_a_variable_may_be_the_same_too), TEST(keys_of_clients_shut_the_door_too),
      TEST(admin_has_its_place), TEST(admin_beyond_loopback_needs_keys), TEST(admin_is_not_where_clients_are),
      TEST(clients_survive_failing_allocations))
