// SPDX-License-Identifier: MIT
// What reading a configuration carries along, and where in it one is. Inside config/ only.
#pragma once
#include "config/keys.h"
#include "config/yaml.h"

struct reader {
    struct config *config;
    struct config_problem *problem;
    const char *file; // for messages; NULL: the command line
    config_environment *environment;
    void *context;                // of environment
    struct arena *scratch;        // dies when reading is over
    const struct node *upstreams; // the map of them, known before models are read; NULL if there is none
    const struct node *models;    // likewise, before recipes are
};

enum { NO_INDEX = -1 };

// One step on the way to a value: upstreams -> openai -> timeouts. On the stack of who walks.
struct place {
    const struct place *up;
    struct str name;
    long index;       // in a list, instead of a name; NO_INDEX otherwise
    struct mark mark; // of what is found there
};

// A scalar with its ${NAME} filled in.
struct value {
    struct str text;
    struct str variable; // the first that was filled in; then the text is never shown
};

// "'upstreams.openai.url'"
void say_path(struct reader *r, const struct place *place);
// Starts a message at a place: "thaw.yaml:3:5: 'upstreams.openai.url'".
void say_place(struct reader *r, const struct place *place);
// "thaw.yaml:3:5: upstreams.openai.url: "
void say_at(struct reader *r, const struct place *place);
// The value as the message may show it.
void say_value(struct reader *r, const struct value *value);
// "'workers' <text>"; always ERR_INVALID.
MUSTCHECK enum err refuse_at(struct reader *r, const struct place *place, const char *text);
MUSTCHECK enum err no_memory(struct reader *r);

// value.c: fills in ${NAME}.
MUSTCHECK enum err value_expand(struct reader *r, const struct place *place, struct str text, struct value *value);
// Checks a value by the key's kind and range and stores it; of lists, adds it. "'workers' must be a number
// ...".
MUSTCHECK enum err value_set(struct reader *r, const struct place *place, const struct key *key, void *base,
                             struct value value);
// "must be a number from 0 to 256": what is said of a value of another shape too.
void say_wanted(struct reader *r, const struct place *place, const struct key *key);
// A default from the table; nothing is copied and nothing can fail.
void value_default(const struct key *key, void *base);
// May things be called that? NULL, or why not.
const char *name_check(struct str name);
MUSTCHECK enum err duration_us_parse(struct str s, uint64_t *us);

// secret.c: kinds SECRET and CLIENT_KEY.
MUSTCHECK enum err secret_set(struct reader *r, const struct place *place, const struct key *key, void *base,
                              struct value value);
MUSTCHECK enum err client_key_add(struct reader *r, const struct place *place, const struct key *key, void *base,
                                  struct value value);

// check.c: a tree over what `config` holds.
MUSTCHECK enum err check_tree(struct reader *r, const struct node *root);
void check_defaults(enum section section, void *base);
// Gives upstreams and clients what they have not set themselves: timeouts, retries, limits, and who runs background
// jobs.
void check_inherit(struct config *c);
// "unknown key 'upstream'; did you mean 'upstreams'?"; `up` is where it stood, NULL for the top.
MUSTCHECK enum err refuse_unknown(struct reader *r, const struct place *up, struct mark at, enum section section,
                                  struct str name);
