// SPDX-License-Identifier: MIT
// The file behind the store: SQLite, on one thread at a time. Private to store/.
//
// Functions that return an error leave a constant sentence in sqlite_problem. Changes and reads of several calls are
// one transaction between sqlite_begin and sqlite_commit; after an error of either or of a call between them comes
// sqlite_rollback.
#pragma once
#include "store/store.h"

struct sqlite;

// `path` begins with '/' or '.'. Marks running jobs of processes that have ended as interrupted.
MUSTCHECK enum err sqlite_open(const char *path, const struct store_options *options, struct sqlite **db,
                               char problem[STORE_PROBLEM_MAX]);
// Accepts NULL.
void sqlite_close(struct sqlite *db);

MUSTCHECK enum err sqlite_begin(struct sqlite *db);
MUSTCHECK enum err sqlite_commit(struct sqlite *db);
void sqlite_rollback(struct sqlite *db);

MUSTCHECK enum err sqlite_put(struct sqlite *db, const struct store_record *record);
// ERR_MISSING; else the record is valid until sqlite_loaded.
MUSTCHECK enum err sqlite_load(struct sqlite *db, struct str id, struct store_record *record);
void sqlite_loaded(struct sqlite *db);
MUSTCHECK enum err sqlite_forget(struct sqlite *db, struct str id);

// Marks one running job whose process has ended as interrupted; *record has its id, valid until the next call. ERR_AGAIN:
// there is none, but another process that has the store; ERR_MISSING: nor that.
MUSTCHECK enum err sqlite_interrupt(struct sqlite *db, uint64_t now_s, struct store_record *record);

// Outside of a transaction.
MUSTCHECK enum err sqlite_each(struct sqlite *db, uint64_t now_s,
                               void (*on_record)(void *context, const struct store_record *record), void *context);
// A bounded piece of what has expired and of the file's free space; *more tells whether there is some left.
MUSTCHECK enum err sqlite_sweep(struct sqlite *db, uint64_t now_s, bool *more);
// Moves the log into the file once it is long enough. What fails is tried again the next time.
void sqlite_tidy(struct sqlite *db);

// Of the last error.
const char *sqlite_problem(const struct sqlite *db);
