/* SPDX-License-Identifier: Apache-2.0 */

/* The deliverer, situation by situation; test-intents-crashes.c is about processes that die. */

#include <sodium.h>
#include <stdio.h>

#include "intents-fixture.h"
#include "log/log.h"
#include "util/string-util.h"

static void test_delivers_in_order_and_deletes(void **state) {
        cause("ada", "#bob", 200);
        run_until(is_empty);
        assert_in_order("ada", "#bob", 200);
        for (unsigned i = 0; i < 200; i++)
                assert_int_equal(atoi(f.deliveries[i].session), i);
        assert_int_equal(statistic("intents_delivered"), 200);
        assert_int_equal(rows(), 0);
}

static void wait_delivered(void *userdata) {
        Cause *cause = userdata;

        store_causes(cause);
        assert_int_equal(cause->r, 0);
        unsigned n = f.n_deliveries;
        cause->r = intents_deliver(f.intents, cause->source, cause->written.last_intent, TIMEOUT_USEC);
        assert_true(f.n_deliveries > n);
}

static void test_waits_for_delivery(void **state) {
        const char *target = "#bob";
        Cause cause = {.source = "ada", .targets = &target, .n_targets = 1, .n = 1};

        for (unsigned i = 0; i < 3; i++) {
                on_fiber(wait_delivered, &cause);
                assert_int_equal(cause.r, 0);
        }
        run_until(is_empty);
}

static void wait_in_vain(void *userdata) {
        Cause *cause = userdata;

        store_causes(cause);
        cause->r = intents_deliver(f.intents, cause->source, cause->written.last_intent, 20 * USEC_PER_MSEC);
}

static void test_does_not_wait_for_ever(void **state) {
        const char *target = "#bob";
        Cause cause = {.source = "ada", .targets = &target, .n_targets = 1, .n = 1};

        f.held = true;
        on_fiber(wait_in_vain, &cause);
        assert_int_equal(cause.r, -ETIME);
        f.held = false;
        fiber_queue_wake(&f.waiting);
        run_until(is_empty);
        assert_int_equal(f.n_deliveries, 1);
}

/* The first three attempts at #bob fail. */
static Sc__ErrorCode bob_is_away(const Delivery *delivery) {
        return streq(delivery->target, "#bob") && count(NULL, "#bob") <= 3 ? ERROR_UNAVAILABLE : ERROR_NONE;
}

static void test_holds_back_only_the_target(void **state) {
        static const char *const targets[] = {"#bob", "#cleo"};
        Cause cause = {.source = "ada", .targets = targets, .n_targets = 2, .n = 6};
        const Delivery *attempts[4];
        unsigned n = 0;

        f.answer = bob_is_away;
        on_fiber(store_causes, &cause);
        run_until(is_empty);
        assert_in_order("ada", "#cleo", 3);
        assert_int_equal(count("ada", "#bob"), 3 + 3);
        uint64_t last = 0;
        FOREACH_ARRAY(delivery, f.deliveries, f.n_deliveries) {
                if (!streq(delivery->target, "#bob"))
                        continue;
                assert_true(delivery->number >= last);
                last = delivery->number;
                if (n < ELEMENTSOF(attempts))
                        attempts[n++] = delivery;
        }
        for (unsigned i = 1; i < n; i++) {
                uint64_t usec = attempts[i]->at_usec - attempts[i - 1]->at_usec;
                assert_int_equal(attempts[i]->number, 1);
                assert_true(usec >= (25 * USEC_PER_MSEC) << (i - 1)); /* half of 50, 100, 200 ms, at least */
        }
        assert_true(f.deliveries[f.n_deliveries - 1].number == 5);
        assert_int_equal(statistic("intents_retried"), 3);
}

static Sc__ErrorCode refuse_the_second(const Delivery *delivery) {
        return streq(delivery->session, "1") ? ERROR_NOT_FOUND : ERROR_NONE;
}

static void check_parked(void *userdata) {
        _cleanup_arena_ Arena arena;
        Sc__Intent key = SC__INTENT__INIT, *intent;

        arena_init(&arena, SIZE_MAX);
        key.source = (char *) "ada";
        key.number = 2;
        assert_int_equal(store_get(f.store, &arena, &sc__intent__info, &key.base, &intent), 1);
        assert_true(intent->parked);
        assert_string_equal(intent->reason, "not_found: because");
}

static void retry_parked(void *userdata) {
        assert_int_equal(intents_retry_parked(f.intents, userdata), 0);
}

static void test_parks_and_sends_again(void **state) {
        unsigned n;

        f.answer = refuse_the_second;
        cause("ada", "#bob", 4);
        run_until(is_empty);
        assert_in_order("ada", "#bob", 4); /* those behind it have passed */
        assert_int_equal(statistic("intents_parked"), 1);
        assert_int_equal(rows(), 1);
        on_fiber(check_parked, NULL);

        /* It stays parked, also for the next process. */
        stop();
        start_without_intents();
        start_intents();
        cause("ada", "#bob", 1);
        run_until(is_empty);
        assert_int_equal(f.n_deliveries, 5);
        assert_int_equal(statistic("intents_parked"), 1);

        f.answer = NULL;
        on_fiber(retry_parked, &n);
        assert_int_equal(n, 1);
        run_until(is_empty);
        assert_int_equal(f.n_deliveries, 6);
        assert_int_equal(f.deliveries[5].number, 6);
        assert_string_equal(f.deliveries[5].session, "1");
        assert_int_equal(statistic("intents_parked"), 0);
        assert_int_equal(rows(), 0);
        on_fiber(retry_parked, &n);
        assert_int_equal(n, 0);
}

static Sc__ErrorCode unknown_twice(const Delivery *delivery) {
        return f.n_deliveries <= 2 ? ERROR_METHOD_NOT_FOUND : ERROR_NONE;
}

static void test_older_release_is_no_refusal(void **state) {
        f.answer = unknown_twice;
        cause("ada", "#bob", 1);
        run_until(is_empty);
        assert_int_equal(f.n_deliveries, 3);
        assert_int_equal(statistic("intents_parked"), 0);
}

static void age_intent(void *userdata) {
        Sc__Intent key = SC__INTENT__INIT;
        const StoreChange change = {store_field(&sc__intent__info, "created_at"), STORE_SET};
        const StoreItem item = {.verb = STORE_PATCH,
                .info = &sc__intent__info,
                .record = &key.base,
                .changes = &change,
                .n_changes = 1};

        key.source = (char *) "ada";
        key.number = 1;
        key.created_at = unix_msec() - 61 * 60 * 1000;
        assert_int_equal(store_write_one(f.store, "ada", &item, NULL), 0);
}

static Sc__ErrorCode unknown(const Delivery *delivery) {
        return ERROR_METHOD_NOT_FOUND;
}

static void test_unknown_for_an_hour_is(void **state) {
        f.answer = unknown;
        cause("ada", "#bob", 1);
        on_fiber(age_intent, NULL);
        start_intents();
        run_until_delivered(1);
        run_until(is_empty);
        assert_int_equal(f.n_deliveries, 1);
        assert_int_equal(statistic("intents_parked"), 1);
}

/* What a former process left: 40 sources with 70 intents each, more than a page. */
static void test_finds_what_is_left(void **state) {
        char name[16];

        for (unsigned i = 0; i < 40; i++) {
                snprintf(name, sizeof(name), "user%u", i);
                cause(name, i % 2 ? "#bob" : "#cleo", 70);
        }
        f.held = true;
        start_intents();
        while (f.n_held < 16)
                assert_true(sd_event_run(f.event, TIMEOUT_USEC) >= 0);
        assert_int_equal(statistic("intents_pending"), 40 * 70);
        f.held = false;
        fiber_queue_wake(&f.waiting);
        run_until(is_empty);
        for (unsigned i = 0; i < 40; i++) {
                snprintf(name, sizeof(name), "user%u", i);
                assert_in_order(name, i % 2 ? "#bob" : "#cleo", 70);
        }
        assert_int_equal(f.max_held, 16);
        assert_int_equal(rows(), 0);
}

/* A name whose shard is one of these: sources are found in the order of their shards. */
static const char *pick_name(unsigned first_shard, unsigned last_shard, char out[static 32]) {
        static unsigned n;
        unsigned shard;

        do {
                snprintf(out, 32, "user%u", n++);
                shard = shard_of(out, SHARDS_DEFAULT);
        } while (shard < first_shard || shard > last_shard);
        return out;
}

/* Long sources do not keep short ones waiting for more than a turn of each. */
static void test_sources_take_turns(void **state) {
        char long_ones[20][32], early[32], late[32];

        cause(pick_name(0, 9, early), "#bob", 1);
        cause(pick_name(200, 255, late), "#bob", 1);
        FOREACH_ARRAY(name, long_ones, ELEMENTSOF(long_ones))
                cause(pick_name(10, 199, *name), "#bob", 130);
        start_intents();
        run_until_delivered(1);
        while (count(early, NULL) + count(late, NULL) < 2)
                assert_true(sd_event_run(f.event, TIMEOUT_USEC) >= 0);
        FOREACH_ARRAY(name, long_ones, ELEMENTSOF(long_ones))
                assert_true(count(*name, NULL) <= 128); /* two pages */
        run_until(is_empty);
        assert_int_equal(f.n_deliveries, 20 * 130 + 2);
}

/* What comes when the last page of a source was read already. */
static void test_stored_while_delivering(void **state) {
        f.held = true;
        cause("ada", "#bob", 1);
        while (f.n_held == 0)
                assert_true(sd_event_run(f.event, TIMEOUT_USEC) >= 0);
        cause("ada", "#cleo", 2);
        assert_int_equal(statistic("intents_pending"), 3);
        f.held = false;
        fiber_queue_wake(&f.waiting);
        run_until_delivered(3);
        run_until(is_empty);
        assert_int_equal(rows(), 0);
}

static void test_full_backlog_refuses(void **state) {
        const char *target = "#bob";
        Cause more = {.source = "ada", .targets = &target, .n_targets = 1, .n = 1};

        run_until(is_empty);
        intents_stored(f.intents, "cleo", INTENTS_MAX_PENDING, INTENTS_MAX_PENDING);
        assert_int_equal(intents_check_room(f.intents), -EBUSY);
        on_fiber(store_causes, &more);
        assert_int_equal(more.r, -EBUSY);
        /* It turns out that they were not there: the count follows the store. */
        run_until(is_empty);
        assert_int_equal(intents_check_room(f.intents), 0);
        assert_int_equal(f.n_deliveries, 0);
}

static void test_looks_after_an_unknown_outcome(void **state) {
        const char *target = "#bob";
        char name[16];

        /* Some are done, some are not, some land later; the sources write no more, and nobody restarts anything. */
        for (unsigned i = 0; i < 30; i++) {
                snprintf(name, sizeof(name), "user%u", i);
                Cause one = {.source = name, .targets = &target, .n_targets = 1, .n = 1};
                model_set_faults(f.model, &(ModelFaults){.unknown = 100, .max_delay_usec = 2000});
                on_fiber(store_causes, &one);
                model_set_faults(f.model, &(ModelFaults){});
                assert_true(one.r == 0 || one.r == -EINPROGRESS);
        }
        model_settle(f.model);
        assert_true(rows() > 0);
        for (uint64_t end = boottime_usec() + 20 * USEC_PER_SEC; boottime_usec() < end && rows() > 0;)
                assert_true(sd_event_run(f.event, 100 * USEC_PER_MSEC) >= 0);
        assert_int_equal(rows(), 0);
        assert_true(f.n_deliveries >= 5);
        run_until(is_empty);
}

/* A write of a process that has died, done by the server after the next process has looked. */
static void test_lands_after_the_search(void **state) {
        Intents *intents = f.intents;

        intents_set_retry(intents, 1000, 1000);
        f.held = true; /* no search begins while something is delivered */
        cause("ann", "#bob", 1);
        run_until_delivered(1);
        f.intents = NULL; /* nobody tells it */
        cause("eve", "#bob", 1);
        f.intents = intents;
        f.held = false;
        fiber_queue_wake(&f.waiting);
        run_until_delivered(2);
        run_until(is_empty);
        assert_int_equal(count("eve", "#bob"), 1);
        assert_int_equal(rows(), 0);
}

/* What could not be noted is found in the store. */
static void test_no_memory_for_a_source(void **state) {
        const char *target = "#bob";
        Cause cause = {.source = "ada", .targets = &target, .n_targets = 1, .n = 3};
        Intents *intents = f.intents;

        run_until(is_empty);
        intents_set_retry(intents, 1000, 1000);
        f.intents = NULL; /* the deliverer is not told */
        on_fiber(store_causes, &cause);
        f.intents = intents;
        no_memory = true;
        intents_stored(f.intents, "ada", 3, 3);
        no_memory = false;
        run_until_delivered(3);
        run_until(is_empty);
        assert_int_equal(rows(), 0);
}

static void wait_for_ever(void *userdata) {
        Cause *cause = userdata;

        store_causes(cause);
        cause->r = intents_deliver(f.intents, cause->source, cause->written.last_intent, UINT64_MAX);
}

static void test_stop_loses_nothing(void **state) {
        const char *target = "#bob";
        Cause cause = {.source = "ada", .targets = &target, .n_targets = 1, .n = 5, .r = 1};
        const FiberStart start = {.main = wait_for_ever, .userdata = &cause};

        f.held = true;
        assert_int_equal(fiber_start(f.fibers, &start, NULL), 0);
        while (f.n_held == 0 || cause.written.last_intent < 5)
                assert_true(sd_event_run(f.event, TIMEOUT_USEC) >= 0);
        intents_stop(f.intents);
        assert_int_equal(cause.r, -ETIME);
        assert_true(intents_is_idle(f.intents));
        f.held = false;
        f.n_deliveries = 0;
        stop();

        start_without_intents();
        start_intents();
        run_until_delivered(5);
        assert_in_order("ada", "#bob", 5);
        run_until(is_empty);
        assert_int_equal(rows(), 0);
}

static void test_store_that_is_away(void **state) {
        cause("ada", "#bob", 3);
        model_set_connected(f.model, false);
        start_intents();
        for (uint64_t end = boottime_usec() + 100 * USEC_PER_MSEC; boottime_usec() < end;)
                assert_true(sd_event_run(f.event, 10 * USEC_PER_MSEC) >= 0);
        assert_int_equal(f.n_deliveries, 0);
        model_set_connected(f.model, true);
        run_until_delivered(3);
        run_until(is_empty);
        assert_in_order("ada", "#bob", 3);
}

static void ask_repeat(void *userdata) {
        Sc__Received received;
        Call call = {.intent = {.source = "ada", .number = 7, .target = "#bob"}}, plain = {};

        arena_init(&call.arena, 1U << 16);
        assert_int_equal(intent_is_repeat(&plain, f.store), 0);
        assert_int_equal(intent_is_repeat(&call, f.store), 0);
        const StoreItem item = intent_follower(&call, &received);
        Sc__Session session = SC__SESSION__INIT;
        session.user = (char *) "#bob";
        session.id = (char *) "1";
        const StoreWrite write = {.partition = "#bob",
                .guard = {.verb = STORE_INSERT, .info = &sc__session__info, .record = &session.base},
                .followers = &item,
                .n_followers = 1};
        assert_int_equal(store_write(f.store, &write, NULL), 0);
        assert_int_equal(intent_is_repeat(&call, f.store), 1);
        call.intent.number = 6;
        assert_int_equal(intent_is_repeat(&call, f.store), 1);
        call.intent.number = 8;
        assert_int_equal(intent_is_repeat(&call, f.store), 0);
        call.intent = (CallIntent){.source = "cleo", .number = 7, .target = "#bob"};
        assert_int_equal(intent_is_repeat(&call, f.store), 0);
        call.intent = (CallIntent){.source = "ada", .number = 7, .target = "#cleo"};
        assert_int_equal(intent_is_repeat(&call, f.store), 0);
        arena_done(&call.arena);
}

static void test_repeats(void **state) {
        on_fiber(ask_repeat, NULL);
}

static void test_ids(void **state) {
        Call a = {.intent = {.source = "ada", .number = 7}}, b = a;
        char id[UUID_TEXT_SIZE], other[UUID_TEXT_SIZE];

        intent_make_id(&a, id);
        intent_make_id(&b, other);
        assert_string_equal(id, other);
        b.intent.number = 8;
        intent_make_id(&b, other);
        assert_string_not_equal(id, other);
        b.intent = (CallIntent){.source = "ada 7", .number = 7};
        intent_make_id(&b, other);
        assert_string_not_equal(id, other);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_EMPTY(name) cmocka_unit_test_setup_teardown(name, setup_empty, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_delivers_in_order_and_deletes),
                TEST(test_waits_for_delivery),
                TEST(test_does_not_wait_for_ever),
                TEST(test_holds_back_only_the_target),
                TEST(test_parks_and_sends_again),
                TEST(test_older_release_is_no_refusal),
                TEST_EMPTY(test_unknown_for_an_hour_is),
                TEST_EMPTY(test_finds_what_is_left),
                TEST_EMPTY(test_sources_take_turns),
                TEST(test_stored_while_delivering),
                TEST(test_full_backlog_refuses),
                TEST(test_stop_loses_nothing),
                TEST(test_no_memory_for_a_source),
                TEST_EMPTY(test_repeats),
                cmocka_unit_test(test_ids),
        };

        const struct CMUnitTest faults[] = {
                TEST(test_looks_after_an_unknown_outcome),
                TEST(test_lands_after_the_search),
                TEST_EMPTY(test_store_that_is_away),
        };

        log_set_level(LOG_ERR);
        if (sodium_init() < 0)
                return 1;
        kind = "model";
        int n_failed = cmocka_run_group_tests_name("model", tests, NULL, NULL);
        n_failed += cmocka_run_group_tests_name("faults of the model", faults, NULL, NULL);
        store_register_backend(&store_backend_class);
        kind = "sqlite";
        n_failed += cmocka_run_group_tests_name("sqlite", tests, NULL, NULL);
        return n_failed;
}
