// SPDX-License-Identifier: MIT
// Routes and recipes: paths with rules or prompts of their own.
#include "reading.h"

#define UPSTREAMS "upstreams: {a: {url: mock}}\nmodels: {fast: {use: a}, slow: {use: a}}\n"

// ---- Routes

static void route_has_all_its_members(void **state UNUSED) {
    struct config *c = read_config("routes:\n"
                                   "  /v1/chat/completions:\n"
                                   "    resume: true\n    coalesce: yes\n    replay_errors: on\n    rerun: true\n"
                                   "    on_disconnect: keep 5m\n"
                                   "  /x*:\n"
                                   "  /y: {on_disconnect: cancel}\n");
    const struct config_route *route = &c->routes[0];
    check_int(c->route_count, 3);
    check_str(route->path, "/v1/chat/completions");
    check(route->resume && route->coalesce && route->replay_errors && route->rerun);
    check_int(route->own, OWN_ON_DISCONNECT);
    check_int(route->on_disconnect.action, DISCONNECT_KEEP);
    check_int(route->on_disconnect.keep_ms, 300000);
    route = &c->routes[1];
    check_str(route->path, "/x*");
    check(!route->resume && !route->coalesce && !route->replay_errors && !route->rerun);
    check_int(route->own, 0);
    check_int(c->routes[2].own, OWN_ON_DISCONNECT);
    check_int(c->routes[2].on_disconnect.action, DISCONNECT_CANCEL);
    config_unref(c);
}

static void exact_route_holds_else_the_longest(void **state UNUSED) {
    struct config *c = read_config("routes: {/v1/*: {}, /v1/images/*: {}, /v1/images/edits: {}, /v1/images/ed*: {}, "
                                   "/v1: {}}");
    static const char *const cases[][2] = {
        {"/v1", "/v1"},
        {"/v1/", "/v1/*"},
        {"/v1/files", "/v1/*"},
        {"/v1/images", "/v1/*"},
        {"/v1/images/", "/v1/images/*"},
        {"/v1/images/variations", "/v1/images/*"},
        {"/v1/images/edits", "/v1/images/edits"},
        {"/v1/images/edits/1", "/v1/images/ed*"},
        {"/v1/images/ed", "/v1/images/ed*"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct config_route *route = config_route_find(c, str_c(cases[i][0]));
        check(route);
        check_str(route->path, cases[i][1]);
    }
    assert_null(config_route_find(c, STR("/v2")));
    assert_null(config_route_find(c, STR("/v")));
    assert_null(config_route_find(c, STR("")));
    assert_null(config_route_find(c, STR("/V1")));
    config_unref(c);
}

static void everything_may_be_one_route(void **state UNUSED) {
    struct config *c = read_config("routes: {/*: {resume: true}}");
    check(config_route_find(c, STR("/any"))->resume);
    config_unref(c);
    c = config_create();
    assert_null(config_route_find(c, STR("/any")));
    config_unref(c);
}

static void route_that_is_no_path_is_refused(void **state UNUSED) {
    check_refused("routes: {v1: {}}", "t.yaml:1:10: 'routes.v1' must begin with /");
    check_refused("routes: {\"*\": {}}", "t.yaml:1:10: 'routes.*' must begin with /");
    check_refused("routes: {/a*b: {}}", "t.yaml:1:10: 'routes./a*b' must not have a * before its end");
    check_refused("routes: {/a**: {}}", "t.yaml:1:10: 'routes./a**' must not have a * before its end");
    check_refused("routes: {\"/a?b\": {}}", "t.yaml:1:10: 'routes./a?b' must not have a query (?)");
    check_refused("routes: {/a//b: {}}", "t.yaml:1:10: 'routes./a//b' must not contain //");
    check_refused("routes: {\"\": {}}", "t.yaml:1:10: 'routes.' must not be empty");
    check_refused("routes: {/a: true}", "t.yaml:1:14: 'routes./a' must be a map of keys and values, not a single "
                                        "value");
    check_refused("routes: [/a]", "t.yaml:1:9: 'routes' must be a map of names and what they stand for, not a list");
    check_refused("routes: {/a: {}, /a: {}}", "t.yaml:1:18: '/a' is there twice; the first one is on line 1");
}

static void wrong_keys_of_routes_are_told(void **state UNUSED) {
    check_refused("routes:\n  /a:\n    resum: true\n",
                  "t.yaml:3:5: unknown key 'routes./a.resum'; did you mean 'resume'?");
    check_refused("routes: {/a: {rerun: maybe}}", "t.yaml:1:22: 'routes./a.rerun' must be true or false, not 'maybe'");
    check_refused("routes: {/a: {on_disconnect: keep}}",
                  "t.yaml:1:30: 'routes./a.on_disconnect' must be cancel, finish, or keep and a duration from 1s to "
                  "24h (keep 60s), not 'keep'");
}

// ---- Recipes

static void recipe_of_one_prompt_has_all_its_members(void **state UNUSED) {
    struct config *c = read_config(UPSTREAMS "recipes:\n"
                                             "  /chat:\n"
                                             "    model: fast\n"
                                             "    system: Be {{how}}.\n"
                                             "    prompt: \"{{ prompt }}\"\n"
                                             "    max_tokens: 500\n"
                                             "    temperature: 0.25\n"
                                             "    deadline: 1s\n"
                                             "    stream: true\n");
    const struct config_recipe *recipe = config_recipe_find(c, STR("/chat"));
    check(recipe == &c->recipes[0]);
    check_int(c->recipe_count, 1);
    check_str(recipe->path, "/chat");
    check_int(recipe->call_count, 0);
    check_int(recipe->one.name.len, 0);
    check_str(recipe->one.model, "fast");
    check_int(recipe->one.system.n, 3);
    check_str(recipe->one.system.parts[1].text, "how");
    check_int(recipe->one.prompt.n, 1);
    check(recipe->one.prompt.parts[0].is_name);
    check_str(recipe->one.prompt.parts[0].text, "prompt");
    check_int(recipe->one.max_tokens, 500);
    check(recipe->one.temperature == 0.25);
    check_int(recipe->one.own, OWN_MAX_TOKENS | OWN_TEMPERATURE);
    check_int(recipe->deadline_ms, 1000);
    check(recipe->stream);
    config_unref(c);
}

static void recipe_of_several_calls_keeps_their_order(void **state UNUSED) {
    struct config *c = read_config("recipes:\n"
                                   "  /review:\n"
                                   "    wait: first 2\n"
                                   "    deadline: 30s\n"
                                   "    calls:\n"
                                   "      summary: {model: any-name, prompt: \"Summarise: {{text}}\"}\n"
                                   "      risks: {prompt: 'Risks of {{text}}', temperature: 0, system: Hm}\n"
                                   "      third: {prompt: x, max_tokens: 1}\n"
                                   "  /other: {calls: {only: {prompt: y}}}\n");
    const struct config_recipe *review = config_recipe_find(c, STR("/review"));
    const struct config_recipe *other = config_recipe_find(c, STR("/other"));
    check_int(c->recipe_count, 2);
    check_int(review->call_count, 3);
    check_int(review->one.prompt.n, 0);
    check_int(review->wait.kind, WAIT_FIRST);
    check_int(review->wait.first, 2);
    check_int(review->deadline_ms, 30000);
    check(!review->stream);
    check_str(review->calls[0].name, "summary");
    check_str(review->calls[0].model, "any-name");
    check_int(review->calls[0].own, 0);
    check_int(review->calls[0].system.n, 0);
    check_int(review->calls[0].prompt.n, 2);
    check_str(review->calls[1].name, "risks");
    check_int(review->calls[1].model.len, 0);
    check_int(review->calls[1].system.n, 1);
    check(review->calls[1].temperature == 0);
    check_int(review->calls[1].own, OWN_TEMPERATURE);
    check_str(review->calls[2].name, "third");
    check_int(review->calls[2].max_tokens, 1);
    check_int(review->calls[2].own, OWN_MAX_TOKENS);
    check_int(other->call_count, 1);
    check_int(other->wait.kind, WAIT_ALL);
    check_int(other->deadline_ms, 0);
    config_unref(c);
}

static void chat_is_there_without_being_configured(void **state UNUSED) {
    struct config *c = config_create();
    const struct config_recipe *chat = config_recipe_find(c, STR("/chat"));
    check(chat);
    check_str(chat->path, "/chat");
    check_int(chat->call_count + chat->one.own + chat->one.system.n, 0);
    check_int(chat->one.prompt.n, 1);
    check(chat->one.prompt.parts[0].is_name);
    check_str(chat->one.prompt.parts[0].text, "prompt");
    assert_null(config_recipe_find(c, STR("/chat/")));
    assert_null(config_recipe_find(c, STR("/review")));
    config_unref(c);
}

static void recipe_is_one_prompt_or_calls(void **state UNUSED) {
    check_refused("recipes: {/x: {}}", "t.yaml:1:11: 'recipes./x' needs the key 'prompt' or the key 'calls'");
    check_refused("recipes:\n  /x:\n", "t.yaml:2:3: 'recipes./x' needs the key 'prompt' or the key 'calls'");
    check_refused("recipes: {/x: {model: a}}", "t.yaml:1:11: 'recipes./x' needs the key 'prompt' or the key 'calls'");
    static const char *const of_one[][2] = {
        {"prompt", "hi"}, {"system", "hi"}, {"model", "hi"}, {"max_tokens", "1"}, {"temperature", "1"}};
    for (size_t i = 0; i < ARRAY_LEN(of_one); i++) {
        char text[128];
        char wanted[160];
        snprintf(text, sizeof text, "recipes:\n  /x:\n    calls: {a: {prompt: y}}\n    %s: %s\n", of_one[i][0],
                 of_one[i][1]);
        snprintf(wanted, sizeof wanted,
                 "t.yaml:4:5: 'recipes./x.%s' cannot stand beside 'calls': each of the calls has its own",
                 of_one[i][0]);
        check_refused(text, wanted);
    }
    check_refused("recipes: {/x: {wait: all, prompt: y}}",
                  "t.yaml:1:16: 'recipes./x.wait' cannot stand beside 'prompt': there is one call to wait for");
}

static void calls_are_checked_like_the_rest(void **state UNUSED) {
    check_refused("recipes: {/x: {calls: {}}}",
                  "t.yaml:1:23: 'recipes./x.calls' is empty: give it an entry or leave it out");
    check_refused("recipes: {/x: {calls: }}",
                  "t.yaml:1:23: 'recipes./x.calls' is empty: give it an entry or leave it out");
    check_refused("recipes: {/x: {calls: [a]}}",
                  "t.yaml:1:23: 'recipes./x.calls' must be a map of names and what they stand for, not a list");
    check_refused("recipes: {/x: {calls: {a: hi}}}",
                  "t.yaml:1:27: 'recipes./x.calls.a' must be a map of keys and values, not a single value");
    check_refused("recipes: {/x: {calls: {a: {model: m}}}}",
                  "t.yaml:1:24: 'recipes./x.calls.a' needs the key 'prompt'");
    check_refused("recipes: {/x: {calls: {a: {promt: m}}}}",
                  "t.yaml:1:28: unknown key 'recipes./x.calls.a.promt'; did you mean 'prompt'?");
    check_refused("recipes: {/x: {calls: {a: {prompt: m}, a: {prompt: m}}}}",
                  "t.yaml:1:40: 'a' is there twice; the first one is on line 1");
    check_refused("recipes: {/x: {calls: {\"\": {prompt: m}}}}", "t.yaml:1:24: 'recipes./x.calls.' must not be empty");
    check_refused("recipes: {/x: {promt: m}}", "t.yaml:1:16: unknown key 'recipes./x.promt'; did you mean 'prompt'?");
}

static void wait_is_read_as_people_write_it(void **state UNUSED) {
    static const struct {
        const char *text;
        enum wait_kind kind;
        unsigned first;
    } cases[] = {{"all", WAIT_ALL, 0}, {"any", WAIT_ANY, 0}, {"first 1", WAIT_FIRST, 1}, {"First  2", WAIT_FIRST, 2}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[128];
        snprintf(text, sizeof text, "recipes: {/x: {wait: %s, calls: {a: {prompt: y}, b: {prompt: z}}}}",
                 cases[i].text);
        struct config *c = read_config(text);
        check_int(c->recipes[0].wait.kind, cases[i].kind);
        check_int(c->recipes[0].wait.first, cases[i].first);
        config_unref(c);
    }
}

static void any_other_wait_is_refused(void **state UNUSED) {
    static const char *const wrong[] = {"first", "first 0", "first -1", "first 1001", "first x", "2", "both", "any 2"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char text[128];
        char wanted[160];
        snprintf(text, sizeof text, "recipes: {/x: {wait: \"%s\", calls: {a: {prompt: y}}}}", wrong[i]);
        snprintf(wanted, sizeof wanted,
                 "t.yaml:1:22: 'recipes./x.wait' must be all, any, or first and a number from 1 to 1000 (first 2), "
                 "not '%s'",
                 wrong[i]);
        check_refused(text, wanted);
    }
    check_refused("recipes: {/x: {wait: first 3, calls: {a: {prompt: y}, b: {prompt: z}}}}",
                  "t.yaml:1:22: 'recipes./x.wait' is for the first 3 of 2 calls");
}

static void numbers_of_prompts_have_ranges(void **state UNUSED) {
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"temperature: 2.001",
         "t.yaml:1:40: 'recipes./x.temperature' must be a number (0.25) from 0 to 2, not '2.001'"},
        {"temperature: -1", "t.yaml:1:40: 'recipes./x.temperature' must be a number (0.25) from 0 to 2, not '-1'"},
        {"temperature: 1m", "t.yaml:1:40: 'recipes./x.temperature' must be a number (0.25) from 0 to 2, not '1m'"},
        {"temperature: 1s", "t.yaml:1:40: 'recipes./x.temperature' must be a number (0.25) from 0 to 2, not '1s'"},
        {"temperature: hot", "t.yaml:1:40: 'recipes./x.temperature' must be a number (0.25) from 0 to 2, not 'hot'"},
        {"temperature: \"\"", "t.yaml:1:40: 'recipes./x.temperature' must be a number (0.25) from 0 to 2, not ''"},
        {"max_tokens: 0", "t.yaml:1:39: 'recipes./x.max_tokens' must be a number from 1 to 10000000, not '0'"},
        {"max_tokens: many", "t.yaml:1:39: 'recipes./x.max_tokens' must be a number from 1 to 10000000, not 'many'"},
        {"deadline: 0", "t.yaml:1:37: 'recipes./x.deadline' must be a duration (250ms, 5s, 2m) from 1s to 24h, not "
                        "'0'"},
        {"deadline: 25h", "t.yaml:1:37: 'recipes./x.deadline' must be a duration (250ms, 5s, 2m) from 1s to 24h, not "
                          "'25h'"},
        {"stream: maybe", "t.yaml:1:35: 'recipes./x.stream' must be true or false, not 'maybe'"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[128];
        snprintf(text, sizeof text, "recipes: {/x: {prompt: y, %s}}", cases[i].text);
        check_refused(text, cases[i].message);
    }
    check_refused("recipes: {/x: {calls: {a: {prompt: y, temperature: 3}}}}",
                  "t.yaml:1:52: 'recipes./x.calls.a.temperature' must be a number (0.25) from 0 to 2, not '3'");
    static const struct {
        const char *text;
        double value;
    } good[] = {{"0", 0}, {"2", 2}, {"2.0", 2}, {"0.7", 0.7}, {"1.125", 1.125}, {"0.001", 0.001}};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        char text[128];
        snprintf(text, sizeof text, "recipes: {/x: {prompt: y, temperature: %s}}", good[i].text);
        struct config *c = read_config(text);
        check(c->recipes[0].one.temperature == good[i].value);
        config_unref(c);
    }
}

static void bad_template_is_told_with_its_character(void **state UNUSED) {
    check_refused("recipes: {/x: {prompt: \"{{\"}}",
                  "t.yaml:1:24: 'recipes./x.prompt' has, at character 1, a {{ that begins no {{name}}: write {{{{ for "
                  "the braces themselves");
    check_refused("recipes: {/x: {prompt: \"\xc3\xbc\xe2\x82\xac {{a}} {{b c}}\"}}",
                  "t.yaml:1:24: 'recipes./x.prompt' has, at character 10, a {{ that begins no {{name}}: write {{{{ for "
                  "the braces themselves");
    check_refused("recipes:\n  /x:\n    calls:\n      a: {prompt: y, system: \"{{\"}\n",
                  "t.yaml:4:30: 'recipes./x.calls.a.system' has, at character 1, a {{ that begins no {{name}}: write "
                  "{{{{ for the braces themselves");
    check_refused("recipes: {/x: {prompt: \"\"}}", "t.yaml:1:24: 'recipes./x.prompt' must not be empty");
    check_refused("recipes: {/x: {prompt: [a]}}", "t.yaml:1:24: 'recipes./x.prompt' must be a text, not a list");
    check_refused("recipes: {/x: {prompt: y, system: }}", "t.yaml:1:35: 'recipes./x.system' must be a text, not "
                                                          "nothing");
}

static void template_without_its_quotes_gets_advice(void **state UNUSED) {
    check_refused("recipes: {/x: {prompt: to {{a}}}}",
                  "t.yaml:1:27: did not find expected ',' or '}' while parsing a flow mapping that begins at 1:15; "
                  "inside { } a text with {{name}} needs quotes");
    check_refused("recipes:\n  /x:\n    prompt: {{a}}\n", "t.yaml:3:14: a key must be a word, not a list or map; a "
                                                          "value that begins with { or [ needs quotes");
}

static void templates_span_lines_and_take_variables(void **state UNUSED) {
    struct config *c = read_config("recipes:\n  /x:\n    prompt: |\n      At ${HOST}:\n      {{text}}\n");
    const struct template *prompt = &c->recipes[0].one.prompt;
    check_int(prompt->n, 3);
    check_str(prompt->parts[0].text, "At hidden.example:\n");
    check_str(prompt->parts[1].text, "text");
    check_str(prompt->parts[2].text, "\n");
    config_unref(c);
}

static void model_of_a_recipe_is_one_of_the_models(void **state UNUSED) {
    struct config *c = read_config("recipes: {/x: {prompt: y, model: fast}}\n" UPSTREAMS); // order must not matter
    check_str(c->recipes[0].one.model, "fast");
    config_unref(c);
    check_refused(UPSTREAMS "recipes: {/x: {prompt: y, model: fsat}}",
                  "t.yaml:3:34: recipes./x.model: no model is called 'fsat'; did you mean 'fast'?");
    check_refused("recipes: {/x: {calls: {b: {prompt: y, model: slwo}}}}\n" UPSTREAMS,
                  "t.yaml:1:46: recipes./x.calls.b.model: no model is called 'slwo'; did you mean 'slow'?");
    check_refused(UPSTREAMS "recipes: {/x: {prompt: y, model: \"${MANY}\"}}",
                  "t.yaml:3:34: recipes./x.model: no model is called what ${MANY} holds");
}

static void recipe_that_is_no_path_is_refused(void **state UNUSED) {
    check_refused("recipes: {x: {prompt: y}}", "t.yaml:1:11: 'recipes.x' must begin with /");
    check_refused("recipes: {/x*: {prompt: y}}",
                  "t.yaml:1:11: 'recipes./x*' must not contain *: a recipe answers one path");
    check_refused("recipes: {/x y: {prompt: y}}",
                  "t.yaml:1:11: 'recipes./x y' must not contain blanks or control characters");
}

static void recipe_at_a_path_of_thaws_own_is_refused(void **state UNUSED) {
    static const char *const taken[] = {
        "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/responses/x",
        "/v1/messages",         "/v1/models",      "/v1/models/x",   "/v1/parallel",  "/v1/tapes",
        "/v1/tapes/x",          "/healthz",        "/readyz"};
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        char text[96];
        char wanted[128];
        snprintf(text, sizeof text, "recipes:\n  %s: {prompt: y}\n", taken[i]);
        snprintf(wanted, sizeof wanted,
                 "t.yaml:2:3: 'recipes.%s' is a path that thaw answers itself: choose another one", taken[i]);
        check_refused(text, wanted);
    }
    config_unref(read_config("recipes: {/v1/chat: {prompt: y}, /v1/tapesx: {prompt: y}, /models: {prompt: y}}"));
}

static void prefix_decides_which_paths_are_thaws_own(void **state UNUSED) {
    config_unref(read_config("recipes: {/v1/models: {prompt: y}}\nprefix: /api\n"));
    check_refused("recipes: {/models: {prompt: y}}\nprefix: \"\"\n",
                  "t.yaml:1:11: 'recipes./models' is a path that thaw answers itself: choose another one");
    check_refused("prefix: /api\nrecipes: {/a: {prompt: y}, /api/tapes/x: {prompt: y}}\n",
                  "t.yaml:2:28: 'recipes./api/tapes/x' is a path that thaw answers itself: choose another one");
    struct config *c = read_config(UPSTREAMS "recipes: {/api/models: {prompt: y}}");
    struct config_problem problem;
    check_ok(config_check(c, &problem));
    check_ok(config_set(c, "prefix", "/api", &problem)); // no file to point at
    check_err(config_check(c, &problem), ERR_INVALID);
    assert_string_equal(problem.text, "'recipes./api/models' is a path that thaw answers itself: choose another one");
    config_unref(c);
}

static void recipes_and_routes_cannot_be_options(void **state UNUSED) {
    struct config *c = config_create();
    struct config_problem problem;
    check_err(config_set(c, "recipes", "x", &problem), ERR_INVALID);
    assert_string_equal(problem.text, "'recipes' can only be set in a file");
    check_err(config_set(c, "routes./v1.resume", "true", &problem), ERR_INVALID);
    config_unref(c);
}

// ---- Failing allocations

static void read_it_all(void *arg UNUSED) {
    struct config *c;
    struct config_problem problem;
    enum err e = config_read_text("t.yaml",
                                  STR(UPSTREAMS "default_model: fast\nstore: sqlite://x\ncors: [https://a, https://b]\n"
                                                "routes: {/a: {on_disconnect: finish}, /b*: {}}\n"
                                                "recipes: {/x: {prompt: \"a {{b}}\", system: c, model: slow}, "
                                                "/y: {calls: {d: {prompt: \"{{e}}\"}, f: {prompt: \"${HOST}\"}}}}\n"),
                                  test_environment, NULL, &c, &problem);
    check(e == OK || e == ERR_NOMEM);
    check((e == OK) == (problem.text[0] == '\0'));
    config_unref(c);
}

static void reading_survives_failing_allocations(void **state UNUSED) {
    check(every_allocation_fails(read_it_all, NULL) > 0);
}

TESTS(TEST(route_has_all_its_members), TEST(exact_route_holds_else_the_longest), TEST(everything_may_be_one_route),
      TEST(route_that_is_no_path_is_refused), TEST(wrong_keys_of_routes_are_told),
      TEST(recipe_of_one_prompt_has_all_its_members), TEST(recipe_of_several_calls_keeps_their_order),
      TEST(chat_is_there_without_being_configured), TEST(recipe_is_one_prompt_or_calls),
      TEST(calls_are_checked_like_the_rest), TEST(wait_is_read_as_people_write_it), TEST(any_other_wait_is_refused),
      TEST(numbers_of_prompts_have_ranges), TEST(bad_template_is_told_with_its_character),
      TEST(template_without_its_quotes_gets_advice), TEST(templates_span_lines_and_take_variables),
      TEST(model_of_a_recipe_is_one_of_the_models), TEST(recipe_that_is_no_path_is_refused),
      TEST(recipe_at_a_path_of_thaws_own_is_refused), TEST(prefix_decides_which_paths_are_thaws_own),
      TEST(recipes_and_routes_cannot_be_options), TEST(reading_survives_failing_allocations))
