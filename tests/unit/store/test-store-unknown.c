/* SPDX-License-Identifier: Apache-2.0 */

/* store_write() on a store that answers nothing but "unknown": it looks up what became of the write. */

#include <stdio.h>

#include "fiber/fiber.h"
#include "fixture.h"
#include "store-model.h"

#define N_WRITES 200U

typedef struct Try {
        int r;
        StoreWritten written;
        char user[8];
} Try;

typedef struct Run {
        Fixture *f;
        Try tries[N_WRITES];
        bool done;
} Run;

static Model *model;

static StoreConfig config_model(const Fixture *f) {
        StoreConfig config = fixture_config_sqlite(f);

        config.kind = "model";
        return config;
}

static int setup_with_seed(void **state, uint64_t seed) {
        model = model_new(seed);
        model_use(model, "model");
        fixture_config = config_model;
        return fixture_setup(state);
}

static int setup(void **state) {
        return setup_with_seed(state, 1);
}

static int teardown(void **state) {
        fixture_teardown(state);
        model = model_free(model);
        return 0;
}

static void insert_users(void *userdata) {
        static const Sc__GroupPingRequest request = SC__GROUP_PING_REQUEST__INIT;
        const StoreIntent intents[] = {
                {.target = "a", .method = &method_group_ping, .request = &request.base},
                {.target = "b", .method = &method_group_ping, .request = &request.base},
        };
        Run *run = userdata;

        for (unsigned i = 0; i < N_WRITES; i++) {
                Try *try = &run->tries[i];
                Sc__User user = SC__USER__INIT;
                snprintf(try->user, sizeof(try->user), "u%u", i);
                user.id = user.username = try->user;
                const StoreWrite write = {
                        .partition = try->user,
                        .guard = {.verb = STORE_INSERT, .info = &sc__user__info, .record = &user.base},
                        .intents = intents,
                        .n_intents = i % 3,
                };
                try->r = store_write(run->f->store, &write, &try->written);
        }
        run->done = true;
}

static void delete_users(void *userdata) {
        Run *run = userdata;

        for (unsigned i = 0; i < N_WRITES; i++) {
                Try *try = &run->tries[i];
                Sc__User user = SC__USER__INIT;
                user.id = try->user;
                const StoreItem item = {.verb = STORE_DELETE, .info = &sc__user__info, .record = &user.base};
                try->r = store_write_one(run->f->store, try->user, &item, NULL);
        }
        run->done = true;
}

static void on_cancelled(int r, void *userdata) {
        fail_msg("a fiber was cancelled");
}

static void run_fiber(Run *run, void (*main)(void *userdata)) {
        static const FiberPoolConfig config = {.max_fibers = 1, .max_queued = 1, .max_queued_per_key = 1};
        const FiberStart start = {.main = main, .cancelled = on_cancelled, .userdata = run};
        _cleanup_(fiber_pool_freep) FiberPool *pool = NULL;

        run->done = false;
        assert_int_equal(fiber_pool_new(&pool, run->f->event, &config), 0);
        assert_int_equal(fiber_start(pool, &start, NULL), 0);
        fixture_wait(run->f, &run->done);
}

/* A record that is there and has the version of the write is the write's, also one that landed while the writer
 * looked: then its intents are found as well. */
static void insert_with_faults(Fixture *f, const ModelFaults *faults) {
        unsigned n_found = 0, n_unknown = 0;
        Run *run = calloc(1, sizeof(*run));

        run->f = f;
        model_set_faults(model, faults);
        run_fiber(run, insert_users);
        model_set_faults(model, &(ModelFaults){});
        for (unsigned i = 0; i < N_WRITES; i++) {
                const Try *try = &run->tries[i];
                if (try->r == -EINPROGRESS) {
                        n_unknown++;
                        continue;
                }
                Sc__User key = SC__USER__INIT;
                assert_int_equal(try->r, 0);
                n_found++;
                key.id = (char *) try->user;
                Sc__User *found = (Sc__User *) fixture_get(f, &sc__user__info, &key);
                assert_non_null(found);
                assert_true(found->version == try->written.version);
                assert_int_equal(try->written.last_intent, i % 3);
                sc__user__free_unpacked(found, NULL);
        }
        assert_true(n_found > 0 && n_unknown > 0);
        free(run);
}

static void test_inserts(void **state) {
        insert_with_faults(*state, &(ModelFaults){.unknown = 100});
}

static void test_inserts_that_land_late(void **state) {
        for (uint64_t seed = 1; seed <= 30; seed++) {
                teardown(state);
                setup_with_seed(state, seed);
                insert_with_faults(*state, &(ModelFaults){.unknown = 100, .reorder = true});
        }
}

/* Of a record that is not there nobody can tell who deleted it. */
static void test_deletes(void **state) {
        Fixture *f = *state;
        Run *run = calloc(1, sizeof(*run));

        run->f = f;
        run_fiber(run, insert_users);
        model_set_faults(model, &(ModelFaults){.unknown = 100});
        run_fiber(run, delete_users);
        for (unsigned i = 0; i < N_WRITES; i++)
                assert_int_equal(run->tries[i].r, -EINPROGRESS);
        free(run);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_inserts, setup, teardown),
                cmocka_unit_test_setup_teardown(test_inserts_that_land_late, setup, teardown),
                cmocka_unit_test_setup_teardown(test_deletes, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
