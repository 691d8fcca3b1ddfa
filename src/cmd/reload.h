// SPDX-License-Identifier: MIT
// Reading the configuration again while calls run: when asked to, and when its file has changed.
//
// The file's folder is watched, and the folder of what it is a link to: editors replace files, Kubernetes swaps a link
// to a folder. What has changed is found out by the digest of its bytes. What cannot be read, or not be done, is said
// with the same sentence as at the start, and everything stays as it is.
#pragma once
#include "ev/loop.h"
#include "gateway/setup.h"
#include "net/digest.h"

enum { RELOAD_SETTLE_MS = 200 }; // after a change: others mostly follow it

struct reload_options {
    struct loop *loop;          // whose thread reads; it may take some 10 ms for certificates
    const char *file;           // NULL: there is none, and nothing is watched
    struct digest seen;         // reload_digest of the file, before it was read for the start
    const struct config *start; // what the process was started with
    // Makes what is configured now, as at the start. On an error `problem` is a sentence.
    enum err (*make)(void *owner, struct blueprint **blueprint, char *problem, size_t size);
    void (*apply)(void *owner, struct blueprint *blueprint); // the workers' turn; takes a reference
    void *owner;
    struct reload_counts *counts;
};

struct reload {
    struct reload_options options;
    struct io changes; // inotify
    struct timer settle;
    int folder, target; // watches; -1: none
    struct digest seen;
};

// Of what is in the file; zero where it is none that can be read twice.
struct digest reload_digest(const char *file);
void reload_open(struct reload *r, const struct reload_options *options);
void reload_close(struct reload *r); // accepts zeroed
// Also of a file that is as it was: others that it names may have changed.
void reload_now(struct reload *r);
