// SPDX-License-Identifier: MIT
// A YAML file as a tree. What configuration does not need is refused with a message instead of being half
// understood: anchors, aliases, tags, merge keys, several documents, keys that are not plain words, a key
// twice in one map. All of it lives in the caller's arena.
#pragma once
#include "config/problem.h"

enum { YAML_DEPTH_MAX = 32 };

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
    enum node_kind kind;
    bool plain; // a scalar written without quotes
    struct mark mark;
    struct str text;    // of a scalar
    unsigned count;     // of a list or map
    struct node *first; // entries of a list, keys of a map, in the order of the file
    struct node *last;
    struct node *next;
    struct node *value; // of a map's key: never NULL in a finished tree
};

// A value that was left out: nothing, ~ or null.
bool node_is_null(const struct node *n);

// `file` is for messages. An empty file is an empty map. ERR_INVALID, ERR_FULL (longer than CONFIG_FILE_MAX)
// and ERR_NOMEM come with a problem.
MUSTCHECK enum err yaml_tree(const char *file, struct str text, struct arena *arena, struct node **root,
                             struct config_problem *problem);
