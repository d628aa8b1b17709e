/* SPDX-License-Identifier: Apache-2.0 */

/* The functions that wait, on fibers. */

#include <stdio.h>

#include "conformance-util.h"
#include "fiber/fiber.h"

/* One fiber of a test. A failed assertion would leave its stack by a jump, so it notes what is wrong. */
typedef struct Run {
        Fixture *f;
        void (*main)(struct Run *run);
        Arena arena;
        unsigned index;
        int wrong_line; /* the first */
        bool done;
} Run;

#define CHECK(run, condition)                                                                               \
        do {                                                                                                \
                if (!(condition) && (run)->wrong_line == 0)                                                 \
                        (run)->wrong_line = __LINE__;                                                       \
        } while (0)

static void run_main(void *userdata) {
        Run *run = userdata;

        run->main(run);
        run->done = true;
}

static void must_not_be_cancelled(int r, void *userdata) {
        fail_msg("a fiber was cancelled");
}

/* Starts n fibers and waits for them. */
static void run_fibers(Fixture *f, void (*main)(Run *run), unsigned n) {
        const FiberPoolConfig config = {.max_fibers = n, .max_queued = n, .max_queued_per_key = n};
        _cleanup_(fiber_pool_freep) FiberPool *pool = NULL;
        Run runs[8] = {};

        assert_true(n <= ELEMENTSOF(runs));
        assert_int_equal(fiber_pool_new(&pool, f->event, &config), 0);
        for (unsigned i = 0; i < n; i++) {
                runs[i] = (Run){.f = f, .main = main, .index = i};
                arena_init(&runs[i].arena, SIZE_MAX);
                assert_int_equal(fiber_start(pool,
                                         &(FiberStart){.main = run_main,
                                                 .cancelled = must_not_be_cancelled,
                                                 .userdata = &runs[i]},
                                         NULL),
                        0);
        }
        for (unsigned i = 0; i < n; i++) {
                fixture_wait(f, &runs[i].done);
                arena_done(&runs[i].arena);
                if (runs[i].wrong_line != 0)
                        fail_msg("fiber %u: wrong at line %d", i, runs[i].wrong_line);
        }
}

static void write_and_read(Run *run) {
        Store *store = run->f->store;
        char id[8], name[8];
        StoreWritten written = {};
        Sc__User *found = NULL;

        snprintf(id, sizeof(id), "u%u", run->index);
        snprintf(name, sizeof(name), "n%u", run->index);
        Sc__User user = make_user(id, name), nobody = make_user("nobody", "nobody");
        const StoreItem insert = INSERT(user, &user),
                        patch = PATCH(user, &user, SET(user, display_name), SET(user, created_at));
        CHECK(run, store_get(store, &run->arena, &sc__user__info, &user.base, &found) == 0);
        CHECK(run, store_write_one(store, id, &insert, &written) == 0);
        CHECK(run, store_version_count(written.version) == 1);
        CHECK(run, store_write_one(store, id, &insert, NULL) == -EEXIST);
        CHECK(run, store_get(store, &run->arena, &sc__user__info, &user.base, &found) == 1);
        CHECK(run, found && streq(found->username, name) && found->version == written.version);
        user.version = written.version;
        user.created_at = 5;
        const StoreWrite write = {.partition = id, .guard = patch};
        CHECK(run, store_write(store, &write, &written) == 0);
        CHECK(run, store_write(store, &write, NULL) == -ESTALE);
        CHECK(run, store_find(store, &run->arena, &sc__user__info, "users_by_username", &user.base,
                           &found) == 1);
        CHECK(run, found && found->created_at == 5 && found->version == written.version);
        CHECK(run, store_find(store, &run->arena, &sc__user__info, "users_by_username", &nobody.base,
                           &found) == 0);
        CHECK(run, store_write_one(store, "elsewhere", &insert, NULL) == -EINVAL);
}

static void test_write_and_read(void **state) {
        run_fibers(*state, write_and_read, 1);
}

static void test_many_fibers(void **state) {
        run_fibers(*state, write_and_read, 8);
}

/* Followers and intents, and several reads of one submission whose rows outlive the call. */
static void write_all(Run *run) {
        Store *store = run->f->store;
        Sc__Member members[5];
        StoreItem items[5];
        char users[5][4];
        const Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;
        const StoreIntent intents[] = {make_intent("x", &request), make_intent("y", &request)};
        const Sc__InboxEntry guard = make_inbox_entry("c", "guard");
        StoreRows *rows = NULL;
        StoreWritten written = {};

        for (unsigned i = 0; i < 5; i++) {
                snprintf(users[i], sizeof(users[i]), "%u", i);
                members[i] = make_member("c", users[i], i);
                items[i] = PUT(member, &members[i]);
        }
        const StoreWrite write = {.partition = "c",
                .guard = INSERT(inbox_entry, &guard),
                .followers = items,
                .n_followers = 5,
                .intents = intents,
                .n_intents = 2};
        CHECK(run, store_write(store, &write, &written) == 0);
        CHECK(run, written.last_intent == 2);
        const StoreRead reads[] = {
                {.info = &sc__member__info, .from = &members[0].base, .n_prefix = 1, .limit = 10},
                {.info = &sc__intent__info, .limit = 10},
                {.info = &sc__inbox_entry__info, .limit = 10},
        };
        CHECK(run, store_read(store, &run->arena, reads, 3, &rows) == 0);
        CHECK(run, rows && rows[0].n == 5 && rows[1].n == 2 && rows[2].n == 1);
        for (unsigned i = 0; rows && i < rows[0].n; i++)
                CHECK(run, ((const Sc__Member *) rows[0].records[i])->read_seq == i);
        CHECK(run, store_read(store, &run->arena, reads, 0, &rows) == -EINVAL);
}

static void test_write_all(void **state) {
        run_fibers(*state, write_all, 1);
}

static void delete_and_check(Run *run) {
        Store *store = run->f->store;
        StoreCheck check = {};
        unsigned n = 99;

        CHECK(run, store_delete_entries(store, "c", 3, 100, &n) == 0);
        CHECK(run, n == 3);
        CHECK(run, store_delete_entries(store, "c", 100, 100, &n) == 0);
        CHECK(run, n == 1);
        CHECK(run, store_check(store, &run->arena, &check) == 0);
        CHECK(run, check.findings && !check.findings[0]);
}

static void test_delete_and_check(void **state) {
        Fixture *f = *state;

        for (unsigned i = 0; i < 5; i++) {
                char id[8];
                snprintf(id, sizeof(id), "%u", i);
                assert_int_equal(fixture_append_text(f, "c", i, "a", id, "x").r, 0);
        }
        run_fibers(f, delete_and_check, 1);
}

/* A write that was submitted is awaited to its end, whatever cancels the fiber; a read is not. */
static void write_cancelled(Run *run) {
        const Sc__User user = make_user("u", "u");
        const StoreItem insert = INSERT(user, &user);
        Sc__User *found;

        fiber_cancel(fiber_current(), -ETIMEDOUT);
        CHECK(run, store_write_one(run->f->store, "u", &insert, NULL) == 0);
        CHECK(run, store_get(run->f->store, &run->arena, &sc__user__info, &user.base, &found) == -ETIMEDOUT);
        CHECK(run, store_write_one(run->f->store, "u", &insert, NULL) == -EEXIST);
}

static void test_cancelled(void **state) {
        Fixture *f = *state;
        const Sc__User user = make_user("u", "u");

        run_fibers(f, write_cancelled, 1);
        assert_non_null(GET(f, user, &user));
}

int conformance_run_fibers(void) {
        static const struct CMUnitTest tests[] = {
                CONFORMANCE_TEST(test_write_and_read),
                CONFORMANCE_TEST(test_many_fibers),
                CONFORMANCE_TEST(test_write_all),
                CONFORMANCE_TEST(test_delete_and_check),
                CONFORMANCE_TEST(test_cancelled),
        };
        return cmocka_run_group_tests_name("fibers", tests, NULL, NULL);
}
