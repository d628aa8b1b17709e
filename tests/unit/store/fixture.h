/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A store in a directory of its own, and its verbs as calls that wait for the completion. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema-tables.h"
#include "store/store.h"

#define FIXTURE_STORE_NAME "test"

typedef struct Fixture {
        sd_event *event;
        Store *store;
        char *directory;
        char *path; /* sqlite: of the database in it */
        unsigned n_completed; /* by fixture_count_*() */
        unsigned n_failed;
        Arena arena; /* for what a test keeps until it is over */
} Fixture;

/* The schema that most tests use: everything that is stored. */
extern const MessageInfo *const fixture_records[];

/* Where fixtures have their directories: "/tmp" at first. */
extern const char *fixture_parent;

/* What StoreConfig says for a fixture: the parameter of the suite. */
typedef StoreConfig (*FixtureConfig)(const Fixture *f);
extern FixtureConfig fixture_config;
StoreConfig fixture_config_sqlite(const Fixture *f);
/* Before a test opens its store for the first time, and after it closed it for the last: a database that is
 * no file in the directory comes and goes. NULL: nothing. */
typedef void (*FixtureHook)(Fixture *f);
extern FixtureHook fixture_begin, fixture_end;

/* cmocka's setup and teardown: with a store that is open, or only the directory. */
int fixture_setup(void **state);
int fixture_setup_closed(void **state);
int fixture_teardown(void **state);

void fixture_new(Fixture *f);
void fixture_done(Fixture *f);
int fixture_open(Fixture *f, const MessageInfo *const *records);
void fixture_close(Fixture *f);

/* Runs the loop until *flag is true; fails the test after half a minute. */
void fixture_wait(Fixture *f, const bool *flag);
/* Runs the loop until so many operations are completed by fixture_count_*(). */
void fixture_wait_completed(Fixture *f, unsigned n);

/* Completions that count: userdata is the fixture. */
void fixture_count_write(int r, const StoreWritten *written, void *userdata);
void fixture_count_append(int r, const StoreAppended *appended, void *userdata);

/* ret may be NULL. */
int fixture_write(Fixture *f, const StoreWrite *write, StoreWritten *ret);
/* One item by itself, in the record's own partition. */
int fixture_write_item(Fixture *f, const StoreItem *item, StoreWritten *ret);
/* The same, for an item without changes and conditions. */
int fixture_write_one(Fixture *f, StoreVerb verb, const MessageInfo *info, const void *record);

typedef struct Taken {
        uint64_t seq;
        int64_t created_at;
        char conversation[68], sender[68], client_msg_id[68], text[68];
} Taken;

typedef struct Appended {
        int r;
        uint64_t last_seq, last_intent;
        size_t n_taken;
        Taken taken[16]; /* the first of them */
} Appended;
Appended fixture_append_all(Fixture *f, const StoreAppend *append);
Appended fixture_append(
        Fixture *f, const char *conversation, uint64_t after_seq, Sc__Message *const *entries, size_t n);
/* One text message. */
Appended fixture_append_text(Fixture *f, const char *conversation, uint64_t after_seq, const char *sender,
        const char *client_msg_id, const char *text);
int fixture_delete_entries(
        Fixture *f, const char *conversation, uint64_t last_seq, unsigned limit, unsigned *ret);
Sc__Message fixture_message(
        const char *conversation, const char *sender, const char *client_msg_id, const char *text);

/* Records are copies: free them with fixture_rows_done(). */
typedef struct Rows {
        ProtobufCMessage **records;
        size_t n;
        bool more;
} Rows;
int fixture_read(Fixture *f, const StoreRead *reads, size_t n, Rows *ret);
void fixture_rows_done(Rows *rows);
#define _cleanup_rows_ __attribute__((cleanup(fixture_rows_done)))
/* NULL if there is none. */
ProtobufCMessage *fixture_get(Fixture *f, const MessageInfo *info, const void *key);
/* The number of messages in a conversation; checks that they are 1, 2, 3 … */
uint64_t fixture_count_messages(Fixture *f, const char *conversation);

typedef struct Checked {
        int r;
        uint64_t pages;
        size_t n_findings;
        char first[256];
} Checked;
Checked fixture_check(Fixture *f);
