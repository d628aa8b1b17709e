/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the groups of the conformance suite share: records, items, and a look at everything that is stored.
 */

#include "conformance.h"
#include "fixture.h"
#include "proto/arena.h"
#include "util/bytes.h"
#include "util/string-util.h"

#define CONFORMANCE_TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

/* One field of the record type, by its names in records.proto. */
#define FIELD(type, name) store_field(&sc__##type##__info, #name)
#define SET(type, name) ((StoreChange){FIELD(type, name), STORE_SET})
#define INCREMENT(type, name) ((StoreChange){FIELD(type, name), STORE_INCREMENT})
#define RAISE(type, name) ((StoreChange){FIELD(type, name), STORE_MAX})

#define ARRAY(type, ...) ((const type[]){__VA_ARGS__})
#define N(type, ...) (sizeof(ARRAY(type, __VA_ARGS__)) / sizeof(type))

/* A StoreItem of a record of a local variable, which is a struct of the type. */
#define ITEM(v, type, r, ...)                                                                               \
        ((StoreItem){.verb = (v), .info = &sc__##type##__info, .record = &(r)->base, ##__VA_ARGS__})
#define INSERT(type, r) ITEM(STORE_INSERT, type, r)
#define PUT(type, r) ITEM(STORE_PUT, type, r)
#define DELETE(type, r) ITEM(STORE_DELETE, type, r)
#define PATCH(type, r, ...)                                                                                 \
        ITEM(STORE_PATCH, type, r, .changes = ARRAY(StoreChange, __VA_ARGS__),                              \
                .n_changes = N(StoreChange, __VA_ARGS__))
/* The item with fields that must be equal. */
#define IF_EQUAL(item, ...) with_equal(item, ARRAY(unsigned, __VA_ARGS__), N(unsigned, __VA_ARGS__))
StoreItem with_equal(StoreItem item, const unsigned *equal, size_t n);

Sc__User make_user(const char *id, const char *username);
Sc__Session make_session(const char *user, const char *id, int64_t expires_at);
Sc__Conversation make_conversation(const char *id, const char *title);
Sc__ConversationHead make_head(const char *conversation, uint64_t last_seq);
Sc__Member make_member(const char *conversation, const char *user, uint64_t read_seq);
Sc__InboxEntry make_inbox_entry(const char *inbox, const char *conversation);
/* Of a method that tests do not call; the request lives as long as the intent. */
StoreIntent make_intent(const char *target, const Sc__UserGetRequest *request);

/* One guard by itself, or with followers, in a partition: what it answered. */
int guard_alone(Fixture *f, const char *partition, StoreItem guard);
int guard_with(Fixture *f, const char *partition, StoreItem guard, const StoreItem *followers, size_t n);
#define GUARD_WITH(f, partition, guard, ...)                                                                \
        guard_with(f, partition, guard, ARRAY(StoreItem, __VA_ARGS__), N(StoreItem, __VA_ARGS__))
/* Followers of a guard that is never refused, and leaves nothing behind. */
int follow_all(Fixture *f, const char *partition, const StoreItem *followers, size_t n);
#define FOLLOW(f, partition, ...)                                                                           \
        follow_all(f, partition, ARRAY(StoreItem, __VA_ARGS__), N(StoreItem, __VA_ARGS__))

/* What is read lives as long as the test. */
int try_read(Fixture *f, const StoreRead *reads, size_t n, const StoreRows **ret);
const StoreRows *read_rows(Fixture *f, const StoreRead *read);
/* The stored record, or NULL. */
void *get(Fixture *f, const MessageInfo *info, const void *key);
#define GET(f, type, key) get(f, &sc__##type##__info, &(key)->base)
/* By all fields of an index. */
void *find(Fixture *f, const MessageInfo *info, const char *index, const void *key);
#define FIND(f, type, index, key) find(f, &sc__##type##__info, index, &(key)->base)

/* Everything that is stored, one packed record behind the other. */
Buffer dump(Fixture *f);
/* Nothing has changed since; frees it. */
void assert_unchanged(Fixture *f, Buffer *before);
