/* SPDX-License-Identifier: Apache-2.0 */

/* The model with faults: what it says of a write is true, however badly it behaves; and with the same seed it
 * behaves the same. STONECHAT_TEST_SEED runs one seed again. */

#include <stdio.h>

#include "fixture.h"
#include "random.h"
#include "store-model.h"

#define N_SEEDS 300U
#define N_WRITES 60U
#define N_PARTITIONS 4U
#define N_LIVES 3U

/* One record each, and a follower beside it. */
typedef struct Written {
        struct World *world;
        unsigned index;
        bool submitted, completed;
        int r;
} Written;

typedef struct World {
        Fixture f;
        Model *model;
        Random random;
        Written writes[N_WRITES];
        unsigned n_submitted, n_completed, last[N_PARTITIONS];
        uint64_t trace; /* of all that was seen */
        unsigned n_done, n_refused, n_unknown, n_unknown_done;
} World;

static Model *opened;

static StoreConfig config_model(const Fixture *f) {
        StoreConfig config = fixture_config_sqlite(f);

        config.kind = "model";
        return config;
}

static void note(World *world, uint64_t what) {
        world->trace = (world->trace ^ what) * 0x100000001b3;
}

static void on_write(int r, const StoreWritten *written, void *userdata) {
        Written *w = userdata;
        World *world = w->world;
        unsigned partition = w->index % N_PARTITIONS;

        w->r = r;
        w->completed = true;
        world->n_completed++;
        note(world, (uint64_t) w->index << 32 | (uint32_t) -r);
        /* In order; what comes after the crash is told in any. */
        if (!model_has_crashed(opened)) {
                assert_true(world->last[partition] <= w->index);
                world->last[partition] = w->index;
        }
}

static void submit(World *world) {
        Written *w = &world->writes[world->n_submitted];
        Sc__Member member = SC__MEMBER__INIT, follower = SC__MEMBER__INIT;
        char conversation[16], user[16], other[16];

        *w = (Written){.world = world, .index = world->n_submitted++};
        snprintf(conversation, sizeof(conversation), "c%u", w->index % N_PARTITIONS);
        snprintf(user, sizeof(user), "u%u", w->index);
        snprintf(other, sizeof(other), "f%u", w->index);
        member.conversation = follower.conversation = conversation;
        member.user = user;
        follower.user = other;
        const StoreItem put = {.verb = STORE_PUT, .info = &sc__member__info, .record = &follower.base};
        const StoreWrite write = {
                .partition = conversation,
                .guard = {.verb = STORE_INSERT, .info = &sc__member__info, .record = &member.base},
                .followers = &put,
                .n_followers = 1,
        };
        assert_int_equal(store_write_start(world->f.store, &write, on_write, w), 0);
        w->submitted = true;
}

static bool is_stored(World *world, const Written *w, char kind) {
        Sc__Member key = SC__MEMBER__INIT;
        char conversation[16], user[16];

        snprintf(conversation, sizeof(conversation), "c%u", w->index % N_PARTITIONS);
        snprintf(user, sizeof(user), "%c%u", kind, w->index);
        key.conversation = conversation;
        key.user = user;
        Sc__Member *found = (Sc__Member *) fixture_get(&world->f, &sc__member__info, &key);
        if (found)
                sc__member__free_unpacked(found, NULL);
        return found != NULL;
}

/* All or nothing of each; all of what was acknowledged, nothing of what was refused. */
static void check(World *world, bool settled) {
        for (unsigned i = 0; i < world->n_submitted; i++) {
                const Written *w = &world->writes[i];
                bool stored = is_stored(world, w, 'u');
                note(world, stored);
                if (!settled) { /* what is unknown may land between two reads */
                        assert_true(stored || w->r != 0);
                        continue;
                }
                assert_int_equal(is_stored(world, w, 'f'), stored);
                if (w->r == 0) {
                        assert_true(stored);
                        world->n_done++;
                } else if (w->r == -EINPROGRESS) {
                        world->n_unknown++;
                        world->n_unknown_done += stored;
                } else {
                        assert_false(stored);
                        world->n_refused++;
                }
        }
}

static void live(World *world, unsigned n_writes) {
        uint64_t n_steps = 0;

        assert_int_equal(fixture_open(&world->f, NULL), 0);
        memset(world->last, 0, sizeof(world->last));
        while (world->n_submitted < n_writes && !model_has_crashed(world->model)) {
                submit(world);
                if (random_percent(&world->random, 30))
                        for (unsigned n = random_below(&world->random, 20); n > 0; n--)
                                assert_true(sd_event_run(world->f.event, 0) >= 0);
                assert_true(++n_steps < 100000);
        }
        if (random_percent(&world->random, 50))
                model_crash(world->model);
        fixture_close(&world->f);
        assert_int_equal(world->n_completed, world->n_submitted);
}

static void run(World *world, uint64_t seed) {
        *world = (World){.random = {seed}, .model = opened = model_new(seed)};
        model_use(world->model, "model");
        fixture_new(&world->f);
        for (unsigned i = 0; i < N_LIVES; i++) {
                model_set_faults(
                        world->model, &(ModelFaults){
                                              .reorder = true,
                                              .refuse = 10,
                                              .unknown = 20,
                                              .crash_point = random_percent(&world->random, 50)
                                                                     ? random_below(&world->random, 50)
                                                                     : 0,
                                      });
                live(world, (i + 1) * N_WRITES / N_LIVES);
        }
        model_set_faults(world->model, &(ModelFaults){});
        assert_int_equal(fixture_open(&world->f, NULL), 0);
        check(world, false);
        model_settle(world->model);
        check(world, true);
        fixture_done(&world->f);
        opened = world->model = model_free(world->model);
}

static uint64_t current_seed; /* 0: no test failed with it */

static int tell_seed(void **state) {
        if (current_seed > 0)
                print_message(
                        "STONECHAT_TEST_SEED=%lu runs the last seed again\n", (unsigned long) current_seed);
        return 0;
}

static void test_faults(void **state) {
        uint64_t n_done = 0, n_refused = 0, n_unknown = 0, n_unknown_done = 0, first, end;
        World *world = calloc(1, sizeof(World));

        random_seeds("STONECHAT_TEST_SEED", N_SEEDS, &first, &end);
        for (current_seed = first; current_seed < end; current_seed++) {
                run(world, current_seed);
                n_done += world->n_done;
                n_refused += world->n_refused;
                n_unknown += world->n_unknown;
                n_unknown_done += world->n_unknown_done;
        }
        current_seed = 0;
        free(world);
        if (end - first < N_SEEDS)
                return;
        /* Every kind of outcome is common. */
        assert_true(n_done > N_SEEDS && n_refused > N_SEEDS && n_unknown_done > N_SEEDS);
        assert_true(n_unknown > n_unknown_done + N_SEEDS);
}

static void test_same_seed(void **state) {
        World *first = calloc(1, sizeof(World)), *second = calloc(1, sizeof(World));

        for (uint64_t seed = 1; seed <= 20; seed++) {
                run(first, seed);
                run(second, seed);
                assert_true(first->trace == second->trace);
        }
        run(second, 21);
        assert_true(first->trace != second->trace);
        free(first);
        free(second);
}

/* One write after the other, and a crash at each point: those before it are done, its own by the point's side,
 * and none behind it. */
static void test_crash_points(void **state) {
        enum { N = 10 };

        for (unsigned point = 1; point <= 2 * N + 1; point++) {
                World world = {.model = opened = model_new(point)};
                model_use(world.model, "model");
                fixture_new(&world.f);
                model_set_faults(world.model, &(ModelFaults){.crash_point = point});
                assert_int_equal(fixture_open(&world.f, NULL), 0);
                for (unsigned i = 0; i < N; i++) {
                        submit(&world);
                        fixture_wait(&world.f, &world.writes[i].completed);
                        bool alive = i < (point - 1) / 2;
                        assert_int_equal(model_has_crashed(world.model), !alive);
                        int expected = alive ? 0 : i == (point - 1) / 2 ? -EINPROGRESS : -ENOTCONN;
                        assert_int_equal(world.writes[i].r, expected);
                }
                fixture_close(&world.f);
                assert_int_equal(fixture_open(&world.f, NULL), 0);
                for (unsigned i = 0; i < N; i++)
                        assert_int_equal(is_stored(&world, &world.writes[i], 'u'), i < point / 2);
                fixture_done(&world.f);
                model_free(world.model);
        }
}

/* A server that is away, and comes back. */
static void test_disconnected(void **state) {
        World world = {.model = opened = model_new(1)};

        model_use(world.model, "model");
        fixture_new(&world.f);
        assert_int_equal(fixture_open(&world.f, NULL), 0);
        assert_true(store_is_connected(world.f.store));
        model_set_connected(world.model, false);
        assert_false(store_is_connected(world.f.store));
        submit(&world);
        fixture_wait(&world.f, &world.writes[0].completed);
        assert_int_equal(world.writes[0].r, -ENOTCONN);
        model_set_connected(world.model, true);
        assert_false(is_stored(&world, &world.writes[0], 'u'));
        submit(&world);
        fixture_wait(&world.f, &world.writes[1].completed);
        assert_int_equal(world.writes[1].r, 0);
        fixture_done(&world.f);
        model_free(world.model);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_faults, tell_seed),
                cmocka_unit_test(test_same_seed),
                cmocka_unit_test(test_crash_points),
                cmocka_unit_test(test_disconnected),
        };

        fixture_config = config_model;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
