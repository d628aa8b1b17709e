/* SPDX-License-Identifier: Apache-2.0 */

/* Intents: what is stored of them, and their numbers. */

#include <stdio.h>

#include "conformance-util.h"
#include "util/id.h"
#include "util/time-util.h"

static const Sc__Intent *get_intent(Fixture *f, const char *source, uint64_t number) {
        Sc__Intent key = SC__INTENT__INIT;

        key.source = (char *) source;
        key.number = number;
        return GET(f, intent, &key);
}

static uint64_t get_counter(Fixture *f, const char *source) {
        Sc__IntentCounter key = SC__INTENT_COUNTER__INIT;

        key.source = (char *) source;
        const Sc__IntentCounter *counter = GET(f, intent_counter, &key);
        return counter ? counter->number : 0;
}

/* A write of n intents whose guard inserts this inbox entry; the requests name it. */
static int write_intents(Fixture *f, const char *source, const char *name, unsigned n, uint64_t *ret_last) {
        const Sc__InboxEntry guard = make_inbox_entry(source, name);
        Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;
        StoreIntent intents[STORE_MAX_FOLLOWERS];
        StoreWritten written = {};

        request.user = (char *) name;
        for (unsigned i = 0; i < n; i++)
                intents[i] = make_intent(i % 2 > 0 ? "odd" : "even", &request);
        const StoreWrite write = {.partition = source,
                .guard = INSERT(inbox_entry, &guard),
                .intents = intents,
                .n_intents = n};
        int r = fixture_write(f, &write, &written);
        *ret_last = written.last_intent;
        return r;
}

static void test_stored(void **state) {
        Fixture *f = *state;
        const Sc__InboxEntry guard = make_inbox_entry("#u", "c");
        Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;
        Trace trace = {.parent = UINT64_MAX - 3, .sampled = true};
        int64_t now = unix_msec();
        StoreWritten written;

        request.user = (char *) "somebody";
        memset(trace.id, 0xa0, sizeof(trace.id));
        trace.id[3] = 0;
        StoreIntent intent = make_intent("target", &request);
        intent.trace = &trace;
        const StoreWrite write = {
                .partition = "#u", .guard = INSERT(inbox_entry, &guard), .intents = &intent, .n_intents = 1};
        assert_int_equal(fixture_write(f, &write, &written), 0);
        assert_int_equal(written.last_intent, 1);
        const Sc__Intent *found = get_intent(f, "#u", 1);
        assert_non_null(found);
        assert_string_equal(found->target, "target");
        assert_string_equal(found->method, method_user_get.name);
        assert_int_equal(found->shard, shard_of("#u", SHARDS_DEFAULT));
        assert_int_equal(found->trace_id.len, sizeof(trace.id));
        assert_memory_equal(found->trace_id.data, trace.id, sizeof(trace.id));
        assert_true(found->trace_parent == trace.parent && found->trace_sampled);
        assert_true(found->created_at >= now && found->created_at <= unix_msec());
        assert_false(found->parked);
        assert_string_equal(found->reason, "");
        Sc__UserGetRequest *unpacked =
                sc__user_get_request__unpack(NULL, found->request.len, found->request.data);
        assert_non_null(unpacked);
        assert_string_equal(unpacked->user, "somebody");
        sc__user_get_request__free_unpacked(unpacked, NULL);
}

static void test_without_trace(void **state) {
        Fixture *f = *state;
        uint64_t last;

        assert_int_equal(write_intents(f, "c", "one", 1, &last), 0);
        const Sc__Intent *found = get_intent(f, "c", 1);
        assert_int_equal(found->trace_id.len, 0);
        assert_int_equal(found->trace_parent, 0);
        assert_false(found->trace_sampled);
}

static void assert_request(Fixture *f, const char *source, uint64_t number, const char *user) {
        const Sc__Intent *found = get_intent(f, source, number);

        assert_non_null(found);
        Sc__UserGetRequest *request =
                sc__user_get_request__unpack(NULL, found->request.len, found->request.data);
        assert_non_null(request);
        assert_string_equal(request->user, user);
        sc__user_get_request__free_unpacked(request, NULL);
}

/* 1, 2, 3 … of each source, in the order of the intents of a write. */
static void test_numbers(void **state) {
        Fixture *f = *state;
        uint64_t last;

        assert_int_equal(write_intents(f, "c", "first", 3, &last), 0);
        assert_int_equal(last, 3);
        assert_int_equal(write_intents(f, "d", "other", 1, &last), 0);
        assert_int_equal(last, 1);
        assert_int_equal(write_intents(f, "c", "none", 0, &last), 0);
        assert_int_equal(last, 0);
        assert_int_equal(write_intents(f, "c", "second", 2, &last), 0);
        assert_int_equal(last, 5);
        for (uint64_t i = 1; i <= 5; i++) {
                assert_request(f, "c", i, i <= 3 ? "first" : "second");
                bool odd = i <= 3 ? i % 2 == 0 : i % 2 == 1;
                assert_string_equal(get_intent(f, "c", i)->target, odd ? "odd" : "even");
        }
        assert_null(get_intent(f, "c", 6));
        assert_null(get_intent(f, "d", 2));
        assert_int_equal(get_counter(f, "c"), 5);
        assert_int_equal(get_counter(f, "d"), 1);
}

static void test_refused_takes_no_number(void **state) {
        Fixture *f = *state;
        uint64_t last;

        assert_int_equal(write_intents(f, "c", "first", 3, &last), 0);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(write_intents(f, "c", "first", 2, &last), -EEXIST);
        assert_int_equal(get_counter(f, "c"), 3);
        assert_int_equal(write_intents(f, "new", "x", 1, &last), 0);
        assert_int_equal(write_intents(f, "c", "second", 1, &last), 0);
        assert_int_equal(last, 4);
        assert_request(f, "c", 4, "second");
}

static void delete_intent(Fixture *f, const char *source, uint64_t number) {
        Sc__Intent key = SC__INTENT__INIT;

        key.source = (char *) source;
        key.number = number;
        assert_int_equal(guard_alone(f, source, DELETE(intent, &key)), 0);
}

/* What was delivered is deleted, and its number never comes again, not even after the store was closed. */
static void test_numbers_go_on(void **state) {
        Fixture *f = *state;
        uint64_t last;

        assert_int_equal(write_intents(f, "c", "first", 2, &last), 0);
        delete_intent(f, "c", 2);
        delete_intent(f, "c", 1);
        assert_int_equal(write_intents(f, "c", "second", 1, &last), 0);
        assert_int_equal(last, 3);
        delete_intent(f, "c", 3);
        fixture_close(f);
        assert_int_equal(fixture_open(f, NULL), 0);
        assert_int_equal(write_intents(f, "c", "third", 1, &last), 0);
        assert_int_equal(last, 4);
}

static void test_many(void **state) {
        Fixture *f = *state;
        uint64_t last;

        assert_int_equal(write_intents(f, "c", "first", STORE_MAX_FOLLOWERS, &last), 0);
        assert_int_equal(last, STORE_MAX_FOLLOWERS);
        assert_int_equal(write_intents(f, "c", "second", STORE_MAX_FOLLOWERS, &last), 0);
        assert_int_equal(last, 2 * STORE_MAX_FOLLOWERS);
        assert_request(f, "c", STORE_MAX_FOLLOWERS, "first");
        assert_request(f, "c", STORE_MAX_FOLLOWERS + 1, "second");
}

/* Of writes, appends and refused ones, all submitted together. */
static void test_submitted_together(void **state) {
        Fixture *f = *state;
        const Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;
        const StoreIntent intent = make_intent("x", &request);
        unsigned n_submitted = 0;

        for (unsigned i = 0; i < 100; i++) {
                char name[8];
                snprintf(name, sizeof(name), "%u", i / 2); /* every second one is refused */
                const Sc__InboxEntry guard = make_inbox_entry(i % 4 < 2 ? "c" : "d", name);
                const StoreWrite write = {.partition = guard.inbox,
                        .guard = INSERT(inbox_entry, &guard),
                        .intents = &intent,
                        .n_intents = 1};
                assert_int_equal(store_write_start(f->store, &write, fixture_count_write, f), 0);
                n_submitted++;
        }
        Sc__Message message = fixture_message("c", "a", "1", "x"), *entries[] = {&message};
        const StoreAppend append = {
                .conversation = "c", .entries = entries, .n = 1, .intents = &intent, .n_intents = 1};
        assert_int_equal(store_append_start(f->store, &append, fixture_count_append, f), 0);
        fixture_wait_completed(f, n_submitted + 1);
        assert_int_equal(f->n_failed, 50);
        assert_int_equal(get_counter(f, "c"), 26);
        assert_int_equal(get_counter(f, "d"), 25);
        for (uint64_t i = 1; i <= 26; i++) {
                assert_non_null(get_intent(f, "c", i));
                assert_true((get_intent(f, "d", i) != NULL) == (i <= 25));
        }
}

/* As the deliverer looks for what is pending. */
static void test_by_shard(void **state) {
        Fixture *f = *state;
        Sc__Intent from = SC__INTENT__INIT;
        uint64_t last;

        assert_int_equal(write_intents(f, "c", "first", 3, &last), 0);
        assert_int_equal(write_intents(f, "#u", "first", 2, &last), 0);
        from.shard = shard_of("c", SHARDS_DEFAULT);
        from.source = (char *) "c";
        from.number = 1;
        StoreRead read = {.info = &sc__intent__info,
                .index = store_index(&sc__intent__info, "intents_by_shard"),
                .from = &from.base,
                .n_prefix = 2,
                .after = true,
                .limit = 100};
        const StoreRows *rows = read_rows(f, &read);
        assert_int_equal(rows->n, 2);
        assert_int_equal(((const Sc__Intent *) rows->records[0])->number, 2);
        assert_int_equal(((const Sc__Intent *) rows->records[1])->number, 3);
        read.n_prefix = 1;
        from.source = (char *) "";
        rows = read_rows(f, &read);
        assert_int_equal(rows->n, from.shard == shard_of("#u", SHARDS_DEFAULT) ? 5 : 3);
}

int conformance_run_intents(void) {
        static const struct CMUnitTest tests[] = {
                CONFORMANCE_TEST(test_stored),
                CONFORMANCE_TEST(test_without_trace),
                CONFORMANCE_TEST(test_numbers),
                CONFORMANCE_TEST(test_refused_takes_no_number),
                CONFORMANCE_TEST(test_numbers_go_on),
                CONFORMANCE_TEST(test_many),
                CONFORMANCE_TEST(test_submitted_together),
                CONFORMANCE_TEST(test_by_shard),
        };
        return cmocka_run_group_tests_name("intents", tests, NULL, NULL);
}
