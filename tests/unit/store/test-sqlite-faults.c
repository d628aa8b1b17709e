/* SPDX-License-Identifier: Apache-2.0 */

/* The disk fails at its first, second, third … operation, until a run comes through unharmed. */

#include <stdio.h>

#include "fault-vfs.h"
#include "log/log.h"
#include "store/store-backend.h"
#include "util/string-util.h"
#include "workload.h"

/* Of operations in a run: the loops below must come to an end. */
#define MAX_OPERATIONS 2000U

static unsigned count_acknowledged(const Workload *w) {
        unsigned n = 0;

        for (unsigned i = 0; i < WORKLOAD_MESSAGES; i++)
                n += w->acknowledged[i] > 0;
        return n;
}

/* Answers whether the fault happened. */
static bool run_with_fault(Fault fault, unsigned first, unsigned count, unsigned max_tries) {
        Fixture f;
        Workload w = {};

        fixture_new(&f);
        fault_vfs_forget();
        fault_vfs_arm(fault, first, count);
        workload_run(&w, &f, max_tries);
        bool happened = fault_vfs_disarm();
        assert_int_equal(fixture_open(&f, workload_records), 0);
        workload_verify(&w, &f);
        assert_int_equal(count_acknowledged(&w), WORKLOAD_MESSAGES); /* it went on once the disk did */
        fixture_done(&f);
        return happened;
}

static unsigned run_until_unharmed(Fault fault, unsigned count, unsigned max_tries) {
        unsigned first = 1;

        while (run_with_fault(fault, first, count, max_tries))
                assert_true(++first < MAX_OPERATIONS);
        assert_true(first > WORKLOAD_MESSAGES); /* it did happen */
        return first;
}

static void test_one_error(void **state) {
        run_until_unharmed(FAULT_ERROR, 1, 3);
}

static void test_several_errors(void **state) {
        run_until_unharmed(FAULT_ERROR, 6, 20);
}

static void test_full(void **state) {
        run_until_unharmed(FAULT_FULL, 10, 30);
}

/* For each moment: without anything that was not synced, and with some of it. */
static void test_crash(void **state) {
        for (unsigned first = 1, happened = true; happened; first++) {
                Fixture f, after;
                Workload w = {};

                assert_true(first < MAX_OPERATIONS);
                fixture_new(&f);
                fault_vfs_forget();
                fault_vfs_arm(FAULT_CRASH, first, 0);
                workload_run(&w, &f, 1);
                happened = fault_vfs_disarm();
                for (unsigned seed = 0; seed < 2 && happened; seed++) {
                        fixture_new(&after);
                        fault_vfs_restore(after.directory, seed * first);
                        assert_int_equal(fixture_open(&after, workload_records), 0);
                        workload_verify(&w, &after);
                        fixture_done(&after);
                }
                fixture_done(&f);
                /* The last run, which was spared, got everything done. */
                assert_true(happened || count_acknowledged(&w) == WORKLOAD_MESSAGES);
        }
}

static void test_full_is_named(void **state) {
        Fixture f;

        fixture_new(&f);
        assert_int_equal(fixture_open(&f, NULL), 0);
        assert_int_equal(fixture_append_text(&f, "c", 0, "a", "1", "one").r, 0);
        fault_vfs_arm(FAULT_FULL, 1, 1000000);
        assert_int_equal(fixture_append_text(&f, "c", 1, "a", "2", "two").r, -ENOSPC);
        assert_int_equal(fixture_count_messages(&f, "c"), 1); /* it still reads */
        assert_int_equal(fixture_append_text(&f, "c", 0, "a", "3", "three").r, -ESTALE); /* and tells */
        fault_vfs_disarm();
        assert_int_equal(fixture_append_text(&f, "c", 1, "a", "2", "two").last_seq, 2);
        fixture_done(&f);
}

static void append_to_many(Fixture *f, char names[][8], size_t n) {
        for (unsigned i = 0; i < n; i++) {
                snprintf(names[i], sizeof(names[i]), "c%u", i);
                Sc__Message message = fixture_message(names[i], "a", names[i], "x"), *entries[] = {&message};
                const StoreAppend append = {.conversation = names[i], .entries = entries, .n = 1};
                assert_int_equal(store_append_start(f->store, &append, fixture_count_append, f), 0);
        }
        fixture_wait_completed(f, n);
}

/* All operations of transactions that cannot be committed are told so. */
static void test_batch_fails_together(void **state) {
        Fixture f;
        char names[50][8];

        fixture_new(&f);
        assert_int_equal(fixture_open(&f, NULL), 0);
        fault_vfs_arm(FAULT_ERROR, 1, 1000000);
        append_to_many(&f, names, ELEMENTSOF(names));
        assert_int_equal(f.n_failed, ELEMENTSOF(names));
        fault_vfs_disarm();
        for (unsigned i = 0; i < ELEMENTSOF(names); i++) {
                assert_int_equal(fixture_count_messages(&f, names[i]), 0);
                assert_int_equal(fixture_append_text(&f, names[i], 0, "a", names[i], "x").last_seq, 1);
        }
        fixture_done(&f);
}

/* Space that is there again at the second try: each operation has one by itself. */
static void test_no_space_for_the_batch(void **state) {
        Fixture f;
        char names[50][8];

        fixture_new(&f);
        assert_int_equal(fixture_open(&f, NULL), 0);
        assert_int_equal(fixture_append_text(&f, "c", 0, "a", "1", "one").r, 0);
        fault_vfs_arm(FAULT_FULL, 1, 1);
        append_to_many(&f, names, ELEMENTSOF(names));
        assert_in_range(f.n_failed, 0, 1); /* one that was a batch by itself has no second try */
        assert_true(fault_vfs_disarm());
        fixture_done(&f);
}

/* Whatever it changed: see wal-vfs.h. */
static void test_commit_is_one_write(void **state) {
        Fixture f;

        fixture_new(&f);
        assert_int_equal(fixture_open(&f, NULL), 0);
        assert_int_equal(fixture_append_text(&f, "c", 0, "a", "1", "one").r, 0);
        fault_vfs_arm(FAULT_NONE, 1, 0);
        assert_int_equal(fixture_append_text(&f, "c", 1, "a", "2", "two").r, 0);
        unsigned n = fault_vfs_n_operations();
        if (fault_vfs_damages) /* several pages, in two parts each, and the rest of the last sector */
                assert_in_range(n, 4, 40);
        else
                assert_int_equal(n, 2); /* with the sync */
        (void) fault_vfs_disarm();
        fixture_done(&f);
}

static void count_unknown(int r, const StoreWritten *written, void *userdata) {
        Fixture *f = userdata;

        f->n_completed++;
        f->n_failed += r == -EINPROGRESS;
        assert_true(r == 0 || r == -EINPROGRESS);
}

/* A failed commit is neither done nor not done. */
static void test_failed_commit_is_unknown(void **state) {
        Sc__User user = SC__USER__INIT;
        Fixture f;

        user.id = user.username = (char *) "ada";
        fixture_new(&f);
        assert_int_equal(fixture_open(&f, NULL), 0);
        assert_int_equal(fixture_append_text(&f, "c", 0, "a", "1", "one").r, 0);
        fault_vfs_arm(FAULT_ERROR, 1, 1000000);
        const StoreWrite write = {.partition = "ada",
                .guard = {.verb = STORE_INSERT, .info = &sc__user__info, .record = &user.base}};
        assert_int_equal(store_write_start(f.store, &write, count_unknown, &f), 0);
        fixture_wait_completed(&f, 1);
        assert_int_equal(f.n_failed, 1);
        fault_vfs_disarm();
        assert_null(fixture_get(&f, &sc__user__info, &user));
        assert_int_equal(store_write_start(f.store, &write, count_unknown, &f), 0);
        fixture_wait_completed(&f, 2);
        assert_int_equal(f.n_failed, 1);
        fixture_done(&f);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_one_error),
                cmocka_unit_test(test_several_errors),
                cmocka_unit_test(test_full),
                cmocka_unit_test(test_crash),
                cmocka_unit_test(test_full_is_named),
                cmocka_unit_test(test_batch_fails_together),
                cmocka_unit_test(test_no_space_for_the_batch),
                cmocka_unit_test(test_failed_commit_is_unknown),
                cmocka_unit_test(test_commit_is_one_write),
        };
        static const struct CMUnitTest more[] = {
                cmocka_unit_test(test_one_error),
                cmocka_unit_test(test_crash),
                cmocka_unit_test(test_full_is_named),
                cmocka_unit_test(test_no_space_for_the_batch),
                cmocka_unit_test(test_commit_is_one_write),
        };

        fault_vfs_register();
        store_register_backend(&store_backend_class);
        log_set_level(LOG_EMERG); /* what fails here is meant to */
        int n_failed = cmocka_run_group_tests_name("faults", tests, NULL, NULL);
        fault_vfs_damages = true;
        return n_failed + cmocka_run_group_tests_name("on a disk that may damage more", more, NULL, NULL);
}
