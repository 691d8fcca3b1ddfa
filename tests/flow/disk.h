// SPDX-License-Identifier: MIT
// The store's thread and its disk, as a test drives them: what the store's thread would do is done by settle(), in the
// loops' own turns, unless it is held; the disk takes what it is given unless it is full. A world has a store where its
// configuration names one:
//
//     struct db db;
//     db_make(&db);
//     world_open_with_workers(&w, db_yaml(&db, ONE_UPSTREAM), 2);
//     ...                                   world_close(&w), and another world on the same file: a restart
//     db_copy(&db, &killed);                what kill -9 would leave at this moment
//     db_remove(&db);
#pragma once
#include <stdbool.h>

struct disk {
    bool held;       // the store's thread does nothing
    bool full;       // every write fails
    unsigned works;  // pieces of work done, each with a transaction for all that had come together
    unsigned writes; // that the disk was given, refused ones among them
};
extern struct disk disk;

// Lets the store's thread do what waits for it. False: there is nothing, or it is held.
bool disk_turn(void);

struct db {
    char dir[64];
    char file[96];
    char yaml[2048];
};
void db_make(struct db *db);
// "store: .." before `more`; valid until the next call.
const char *db_yaml(struct db *db, const char *more);
// Makes `to`, with the bytes that the file and its log have now.
void db_copy(const struct db *from, struct db *to);
// After the last world that has it. Checks that a closed store leaves nothing beside its file.
void db_remove(struct db *db);
// The number that an SQL query gives. No world has it open.
long long db_number(const struct db *db, const char *sql);
void db_change(const struct db *db, const char *sql);
