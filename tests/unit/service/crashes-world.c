/* SPDX-License-Identifier: Apache-2.0 */

#include "crashes-world.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "schema-tables.h"
#include "util/string-util.h"

#define MAX_ITERATIONS 200000U
#define MAX_KILLS 20U /* beside those at crash points, so that at last everything goes on */

void world_note(World *world, const char *what, uint64_t number) {
        for (; *what; what++)
                world->trace = (world->trace ^ (uint8_t) *what) * 0x100000001b3;
        world->trace = (world->trace ^ number) * 0x100000001b3;
}

/* --- causes --- */

void cause_name_effect(const Actor *actor, unsigned cause, unsigned i, char out[static 32]) {
        snprintf(out, 32, "%s-%u-%u%s", actor->name, cause, i, (cause + i) % 5 == 4 ? "!" : "");
}

unsigned cause_count_intents(unsigned cause) {
        return 1 + cause % WORLD_MAX_INTENTS;
}
unsigned cause_pick_target(const Actor *actor, unsigned cause, unsigned i) {
        return ((unsigned) actor->name[1] + cause / 2 + i) % WORLD_TARGETS;
}
bool cause_is_join(unsigned cause, unsigned i) {
        return (cause + i) % 3 == 1;
}

static int store_cause(Actor *actor, unsigned cause, StoreWritten *ret) {
        Process *process = actor->process;
        Sc__Session session = SC__SESSION__INIT;
        Sc__Member member = SC__MEMBER__INIT;
        Sc__InboxSessionEndedRequest ended[WORLD_MAX_INTENTS];
        Sc__InboxJoinRequest joined[WORLD_MAX_INTENTS];
        char id[32], effects[WORLD_MAX_INTENTS][32];
        StoreIntent intents[WORLD_MAX_INTENTS];
        StoreWrite write = {.partition = actor->name,
                .guard = {.verb = STORE_INSERT},
                .intents = intents,
                .n_intents = cause_count_intents(cause)};

        snprintf(id, sizeof(id), "%s-%u", actor->name, cause);
        session.user = member.conversation = actor->name;
        session.id = member.user = id;
        write.guard.info = process == &process->world->a ? &sc__session__info : &sc__member__info;
        write.guard.record = process == &process->world->a ? &session.base : &member.base;
        for (unsigned i = 0; i < write.n_intents; i++) {
                cause_name_effect(actor, cause, i, effects[i]);
                ended[i] = (Sc__InboxSessionEndedRequest) SC__INBOX_SESSION_ENDED_REQUEST__INIT;
                ended[i].session = effects[i];
                joined[i] = (Sc__InboxJoinRequest) SC__INBOX_JOIN_REQUEST__INIT;
                joined[i].by = effects[i];
                intents[i] = (StoreIntent){
                        .target = process->world->b.targets[cause_pick_target(actor, cause, i)].name,
                        .method = cause_is_join(cause, i) ? &method_inbox_join : &method_inbox_session_ended,
                        .request = cause_is_join(cause, i) ? &joined[i].base : &ended[i].base};
        }
        return intents_write(process->intents, process->store, &write, ret);
}

static void actor_main(void *userdata) {
        Actor *actor = userdata;
        Process *process = actor->process;
        World *world = process->world;

        while (actor->next < WORLD_CAUSES && fiber_check_cancelled() == 0) {
                unsigned cause = actor->next++;
                StoreWritten written;

                int r = store_cause(actor, cause, &written);
                world_note(world, actor->name, (uint64_t) r);
                if (r < 0 || random_percent(&world->random, 50))
                        continue;
                r = intents_deliver(process->intents, actor->name, written.last_intent, UINT64_MAX);
                for (unsigned i = 0; r >= 0 && i < cause_count_intents(cause); i++)
                        if (!actor->answered[cause][i])
                                fail_msg("seed %" PRIu64 ": %s-%u-%u counts as delivered", world->seed,
                                        actor->name, cause, i);
        }
        actor->running = false;
}

static void actor_cancelled(int r, void *userdata) {
        Actor *actor = userdata;

        actor->running = false;
}

/* --- processes --- */

static const MessageInfo *const records[] = {
        &sc__session__info,
        &sc__member__info,
        &sc__message__info,
        &sc__intent__info,
        &sc__intent_counter__info,
        &sc__received__info,
        NULL,
};

void process_set_faults(Process *process) {
        World *world = process->world;
        ModelFaults faults = {.reorder = true};

        if (world->faults) {
                faults.refuse = 3;
                faults.unknown = world->late ? 5 : 0;
                /* One after the other, so that there is a run for each. */
                if (process->n_starts <= 3)
                        faults.crash_point = 1 + random_below(&world->random, 24);
        }
        model_set_faults(process->model, &faults);
}

static void process_start(Process *process) {
        World *world = process->world;
        const StoreConfig config = {.kind = "model",
                .name = process->name,
                .records = records,
                .n_readers = 1,
                .batch_operations = 8,
                .max_queued = 1000};
        const FiberPoolConfig pool = {
                .max_fibers = 64, .n_internal = 32, .max_queued = 100, .max_queued_per_key = 100};

        process->n_starts++;
        assert_int_equal(fiber_pool_new(&process->fibers, world->event, &pool), 0);
        model_use(process->model, "model");
        assert_int_equal(store_open(&process->store, world->event, &config), 0);
        process_set_faults(process);
        assert_int_equal(intents_new(&process->intents, world->event, process->fibers, process->store,
                                 (Dispatcher *) process),
                0);
        intents_set_retry(process->intents, 0, 0);
        FOREACH_ARRAY(actor, process->actors, WORLD_SOURCES) {
                const FiberStart start = {
                        .main = actor_main, .cancelled = actor_cancelled, .userdata = actor};
                actor->running = true;
                assert_int_equal(fiber_start(process->fibers, &start, NULL), 0);
        }
}

static void process_end(Process *process) {
        intents_stop(process->intents);
        fiber_pool_cancel_all(process->fibers);
        process->store = store_close(process->store);
        assert_true(intents_is_idle(process->intents));
        process->intents = intents_free(process->intents);
        process->fibers = fiber_pool_free(process->fibers);
        FOREACH_ARRAY(target, process->targets, WORLD_TARGETS)
                target->busy = false;
}

void process_kill(Process *process) {
        world_note(process->world, process->name, ++process->world->n_crashes);
        if (!model_has_crashed(process->model))
                model_crash(process->model);
        network_forget(process->world, process);
        process_end(process);
        process_start(process);
}

static void process_init(Process *process, World *world, const char *name, char letter) {
        *process = (Process){.world = world, .name = name, .model = model_new(random_next(&world->random))};
        for (unsigned i = 0; i < WORLD_SOURCES; i++) {
                process->actors[i].process = process;
                snprintf(process->actors[i].name, sizeof(process->actors[i].name), "%c%u", letter, i);
        }
        for (unsigned i = 0; i < WORLD_TARGETS; i++)
                snprintf(process->targets[i].name, sizeof(process->targets[i].name), "#t%u", i);
}

/* --- the world --- */

void world_iterate(World *world) {
        assert_se(sd_event_run(world->event, 0) >= 0);
        network_step(world);
        Process *processes[] = {&world->a, &world->b};
        FOREACH_ARRAY(process, processes, 2)
                if (model_has_crashed((*process)->model))
                        process_kill(*process);
                else if (world->faults && world->n_kills < MAX_KILLS &&
                         random_below(&world->random, 500) == 0) {
                        world->n_kills++;
                        process_kill(*process);
                }
}

static bool is_quiet(const Process *process) {
        BusStatistic pending;

        FOREACH_ARRAY(actor, process->actors, WORLD_SOURCES)
                if (actor->running)
                        return false;
        assert_se(intents_statistics(process->intents, &pending, 1) == 1);
        return pending.value == 0 && intents_is_idle(process->intents);
}

void world_run_until_quiet(World *world) {
        unsigned i = 0;

        while (!is_quiet(&world->a) || !is_quiet(&world->b) || !TAILQ_EMPTY(&world->requests)) {
                if (++i > MAX_ITERATIONS)
                        fail_msg("seed %" PRIu64 ": nothing goes on", world->seed);
                world_iterate(world);
        }
}

typedef struct Task {
        void (*run)(World *world);
        World *world;
} Task;

static void run_task(void *userdata) {
        Task *task = userdata;

        task->run(task->world);
        task->world->done = true;
}

void world_on_fiber(World *world, void (*run)(World *world)) {
        Task task = {run, world};
        const FiberStart start = {.main = run_task, .userdata = &task};

        world->done = false;
        assert_int_equal(fiber_start(world->b.fibers, &start, NULL), 0);
        for (unsigned i = 0; !world->done; i++) {
                assert_true(i < MAX_ITERATIONS);
                world_iterate(world);
        }
}

void world_init(World *world, uint64_t seed) {
        *world = (World){.seed = seed, .random = {seed}, .faults = true, .poison = true, .late = seed % 2};
        TAILQ_INIT(&world->requests);
        assert_se(sd_event_new(&world->event) >= 0);
        process_init(&world->a, world, "accounts", 'a');
        process_init(&world->b, world, "conversations", 'b');
        process_start(&world->a);
        process_start(&world->b);
}

void world_done(World *world) {
        process_end(&world->a);
        process_end(&world->b);
        model_free(world->a.model);
        model_free(world->b.model);
        sd_event_unref(world->event);
}
