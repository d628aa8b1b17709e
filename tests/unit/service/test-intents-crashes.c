/* SPDX-License-Identifier: Apache-2.0 */

/* Each cause that is stored has had each of its effects once, in the order of the causes, whoever dies when:
 * see crashes-world.h. STONECHAT_SEED=N runs one seed again. */

#include <inttypes.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "crashes-world.h"
#include "schema-tables.h"
#include "util/string-util.h"

#define N_SEEDS 200

static void retry_parked(World *world) {
        unsigned a, b;

        assert_int_equal(intents_retry_parked(world->a.intents, &a), 0);
        assert_int_equal(intents_retry_parked(world->b.intents, &b), 0);
        world->n_parked += a + b;
}

/* --- what must have come of it --- */

static StoreRows *read_all(
        Process *process, Arena *arena, const MessageInfo *info, const ProtobufCMessage *from) {
        const StoreRead read = {.info = info, .from = from, .n_prefix = 1, .limit = 1000};
        StoreRows *rows;

        assert_int_equal(store_read(process->store, arena, &read, 1, &rows), 0);
        assert_false(rows->more);
        return rows;
}

static bool is_stored(Actor *actor, Arena *arena, unsigned cause) {
        Sc__Session session = SC__SESSION__INIT;
        Sc__Member member = SC__MEMBER__INIT;
        bool a = actor->process == &actor->process->world->a;
        char id[32];
        void *row;

        snprintf(id, sizeof(id), "%s-%u", actor->name, cause);
        session.user = member.conversation = actor->name;
        session.id = member.user = id;
        int r = store_get(actor->process->store, arena, a ? &sc__session__info : &sc__member__info,
                a ? &session.base : &member.base, &row);
        assert_true(r >= 0);
        return r;
}

static unsigned count_entries(World *world, Arena *arena, const char *target, const char *effect) {
        Sc__Message from = SC__MESSAGE__INIT;
        unsigned n = 0;

        from.conversation = (char *) target;
        const StoreRows *rows = read_all(&world->b, arena, &sc__message__info, &from.base);
        for (size_t i = 0; i < rows->n; i++)
                n += streq(((Sc__Message *) rows->records[i])->text, effect);
        return n;
}

static void check_order(World *world, Arena *arena, const char *target, const Actor *actor) {
        Sc__Message from = SC__MESSAGE__INIT;
        int64_t last = 0;

        from.conversation = (char *) target;
        const StoreRows *rows = read_all(&world->b, arena, &sc__message__info, &from.base);
        for (size_t i = 0; i < rows->n; i++) {
                const Sc__Message *message = (const Sc__Message *) rows->records[i];
                if (!streq(message->sender, actor->name))
                        continue;
                if (message->created_at <= last)
                        fail_msg("seed %" PRIu64 ": %s: intent %" PRId64 " came after %" PRId64, world->seed,
                                target, message->created_at, last);
                last = message->created_at;
        }
}

static void check_count(World *world, Arena *arena, Target *target, const Actor *actor, unsigned expected) {
        Sc__Member key = SC__MEMBER__INIT, *member;

        key.conversation = target->name;
        key.user = (char *) actor->name;
        int r = store_get(world->b.store, arena, &sc__member__info, &key.base, &member);
        assert_true(r >= 0);
        uint64_t n = r > 0 ? member->read_seq : 0;
        if (n != expected)
                fail_msg("seed %" PRIu64 ": %s counted %" PRIu64 " instead of %u of %s", world->seed,
                        target->name, n, expected, actor->name);
}

static void check_actor(World *world, Arena *arena, Actor *actor) {
        unsigned counts[WORLD_TARGETS] = {};
        Sc__Intent from = SC__INTENT__INIT;

        for (unsigned cause = 0; cause < WORLD_CAUSES; cause++) {
                unsigned expected = is_stored(actor, arena, cause);
                for (unsigned i = 0; i < cause_count_intents(cause); i++) {
                        char effect[32];
                        cause_name_effect(actor, cause, i, effect);
                        unsigned t = cause_pick_target(actor, cause, i);
                        if (cause_is_join(cause, i)) {
                                counts[t] += expected;
                                continue;
                        }
                        unsigned n = count_entries(world, arena, world->b.targets[t].name, effect);
                        if (n != expected)
                                fail_msg("seed %" PRIu64 ": %s is there %u times instead of %u", world->seed,
                                        effect, n, expected);
                }
        }
        for (unsigned t = 0; t < WORLD_TARGETS; t++) {
                check_count(world, arena, &world->b.targets[t], actor, counts[t]);
                check_order(world, arena, world->b.targets[t].name, actor);
        }
        from.source = actor->name;
        assert_int_equal(read_all(actor->process, arena, &sc__intent__info, &from.base)->n, 0);
}

static void check(World *world) {
        _cleanup_arena_ Arena arena;

        arena_init(&arena, SIZE_MAX);
        FOREACH_ARRAY(actor, world->a.actors, WORLD_SOURCES)
                check_actor(world, &arena, actor);
        FOREACH_ARRAY(actor, world->b.actors, WORLD_SOURCES)
                check_actor(world, &arena, actor);
}

static uint64_t live(uint64_t seed, World *world) {
        world_init(world, seed);
        world_run_until_quiet(world);
        world->faults = world->poison = false;
        process_set_faults(&world->a);
        process_set_faults(&world->b);
        model_settle(world->a.model);
        model_settle(world->b.model);
        if (world->late) {
                process_kill(&world->a);
                process_kill(&world->b);
        }
        world_run_until_quiet(world);
        world_on_fiber(world, retry_parked);
        world_run_until_quiet(world);
        world_on_fiber(world, check);

        world_done(world);
        return world->trace;
}

static void test_crashes(void **state) {
        unsigned n_crashes = 0, n_lost = 0, n_doubled = 0, n_parked = 0, n_effects = 0, n_repeats = 0;
        uint64_t first, end;

        random_seeds("STONECHAT_SEED", N_SEEDS, &first, &end);
        for (uint64_t seed = first; seed < end; seed++) {
                World world;
                uint64_t trace = live(seed, &world);
                n_crashes += world.n_crashes;
                n_lost += world.n_lost;
                n_doubled += world.n_doubled;
                n_parked += world.n_parked;
                n_effects += world.n_effects;
                n_repeats += world.n_repeats;
                if (end - first == 1)
                        print_message("trace %016" PRIx64 "\n", trace);
        }
        print_message("crashes: %u, lost: %u, doubled: %u, parked: %u, effects: %u, repeats: %u\n",
                n_crashes, n_lost, n_doubled, n_parked, n_effects, n_repeats);
        if (end - first > 1) {
                assert_true(n_crashes > N_SEEDS && n_lost > N_SEEDS && n_doubled > N_SEEDS);
                assert_true(n_parked > N_SEEDS && n_effects > N_SEEDS && n_repeats > N_SEEDS);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_crashes),
        };

        log_set_level(LOG_ERR);
        return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
