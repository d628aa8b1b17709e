/* SPDX-License-Identifier: Apache-2.0 */

/* Intents between two roles whose processes die, over stores and a network that do the worst they may, by a
 * seed. Role A (accounts) has causes whose intents go to inboxes in role B; role B (conversations) has
 * causes of its own, too, whose intents go to the same inboxes. At the end each cause that is stored has had
 * each of its effects once, in the order of the causes, and no other effect is there.
 *
 * STONECHAT_SEED=N runs one seed again. */

#include <inttypes.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/queue.h>

#include <cmocka.h>

#include "random.h"
#include "schema-tables.h"
#include "service/intents.h"
#include "store-model.h"
#include "util/string-util.h"

#define N_SEEDS 200
#define N_SOURCES 3U /* of each role, with a fiber of its own */
#define N_TARGETS 3U
#define N_CAUSES 5U /* of each source */
#define MAX_INTENTS 3U /* of a cause */
#define MAX_ITERATIONS 200000U
#define MAX_KILLS 20U /* beside those at crash points, so that at last everything goes on */

typedef struct World World;
typedef struct Process Process;

/* What a source does, in order; goes on when its process is started again. */
typedef struct Actor {
        Process *process;
        char name[16];
        unsigned next; /* cause */
        bool running;
        bool answered[N_CAUSES][MAX_INTENTS]; /* by the target: done, or refused for good */
} Actor;

typedef struct Target {
        char name[16];
        bool busy; /* an append is outstanding */
        FiberQueue waiting;
} Target;

struct Process {
        World *world;
        const char *name;
        Model *model;
        FiberPool *fibers;
        Store *store;
        Intents *intents;
        Actor actors[N_SOURCES];
        Target targets[N_TARGETS];
        unsigned n_starts;
};

/* What the caller waits for. */
typedef struct Reply {
        Future future;
        DispatcherOutcome outcome;
} Reply;

/* A request on its way, or a handler that runs. */
typedef struct Request {
        TAILQ_ENTRY(Request) link;
        World *world;
        Process *from;
        Reply *reply; /* NULL: nobody waits any more */
        bool running;
        const MethodInfo *method;
        void *data;
        size_t size;
        char source[32], target[32];
        uint64_t number;
} Request;

struct World {
        uint64_t seed;
        Random random;
        sd_event *event;
        Process a, b;
        TAILQ_HEAD(, Request) requests;
        bool faults; /* the network loses and doubles */
        bool late; /* outcomes of writes are unknown, and they land later; only a new process finds them all */
        bool poison; /* some intents are refused for good */
        bool done; /* of a fiber of the test's */
        unsigned n_crashes, n_kills, n_doubled, n_lost, n_parked, n_effects, n_repeats;
        uint64_t trace; /* of what happened, to compare two runs */
};

static void note(World *world, const char *what, uint64_t number) {
        for (; *what; what++)
                world->trace = (world->trace ^ (uint8_t) *what) * 0x100000001b3;
        world->trace = (world->trace ^ number) * 0x100000001b3;
}

/* --- the network --- */

static Request *request_free(Request *request) {
        TAILQ_REMOVE(&request->world->requests, request, link);
        if (request->reply)
                future_unref(&request->reply->future);
        free(request->data);
        return mfree(request);
}

static void request_answer(Request *request, Sc__ErrorCode code) {
        Reply *reply = TAKE_PTR(request->reply);

        if (!reply)
                return;
        reply->outcome.code = code;
        future_fulfil(&reply->future);
}

static Request *request_new(World *world, Process *from, const DispatcherDelivery *delivery, Reply *reply) {
        Request *request = new0(Request, 1);

        assert_se(request);
        *request = (Request){.world = world,
                .from = from,
                .method = delivery->method,
                .size = delivery->request_size,
                .number = delivery->number};
        request->data = malloc(delivery->request_size + 1);
        assert_se(request->data);
        memcpy(request->data, delivery->request, delivery->request_size);
        snprintf(request->source, sizeof(request->source), "%s", delivery->source);
        snprintf(request->target, sizeof(request->target), "%s", delivery->target);
        if (reply) {
                request->reply = reply;
                future_ref(&reply->future);
        }
        TAILQ_INSERT_TAIL(&world->requests, request, link);
        return request;
}

/* In place of the dispatcher's, by the linker's --wrap: a "dispatcher" is the process that sends. */
int __wrap_dispatcher_deliver(
        Dispatcher *dispatcher, const DispatcherDelivery *delivery, DispatcherOutcome *ret);

int __wrap_dispatcher_deliver(
        Dispatcher *dispatcher, const DispatcherDelivery *delivery, DispatcherOutcome *ret) {
        Process *from = (Process *) dispatcher;
        World *world = from->world;
        Reply *reply = new0(Reply, 1);

        assert_se(reply);
        note(world, "send", delivery->number);
        future_init(&reply->future, NULL);
        (void) request_new(world, from, delivery, reply);
        if (world->faults && random_percent(&world->random, 10)) {
                world->n_doubled++;
                (void) request_new(world, from, delivery, NULL);
        }
        int r = future_await(&reply->future);
        if (r >= 0)
                *ret = reply->outcome;
        future_unref(&reply->future);
        return r;
}

/* --- the handlers of role B --- */

typedef struct Appended {
        Future future;
        int r;
} Appended;

static void on_appended(int r, const StoreAppended *result, void *userdata) {
        Appended *appended = userdata;

        appended->r = r;
        future_fulfil(&appended->future);
}

static int append_and_wait(Store *store, const StoreAppend *append) {
        Appended *appended = new0(Appended, 1);

        assert_se(appended);
        future_init(&appended->future, NULL);
        future_ref(&appended->future);
        int r = store_append_start(store, append, on_appended, appended);
        if (r < 0)
                future_unref(&appended->future);
        else {
                future_await_fully(&appended->future);
                r = appended->r;
        }
        future_unref(&appended->future);
        return r;
}

static int read_last_seq(Call *call, Store *store, uint64_t *ret) {
        Sc__Message from = SC__MESSAGE__INIT;
        const StoreRead read = {
                .info = &sc__message__info, .from = &from.base, .n_prefix = 1, .descending = true};
        StoreRows *rows;

        from.conversation = (char *) call->intent.target;
        int r = store_read(store, &call->arena, &read, 1, &rows);
        if (r >= 0)
                *ret = rows->n > 0 ? ((Sc__Message *) rows->records[0])->seq : 0;
        return r;
}

/* One entry of the inbox's log, whose guard is the intent's id. */
static int append_once(Call *call, Process *process, const char *effect) {
        Sc__Message message = SC__MESSAGE__INIT, *entries[] = {&message};
        Sc__Received received;
        const StoreItem follower = intent_follower(call, &received);
        char id[UUID_TEXT_SIZE];
        StoreAppend append = {.conversation = call->intent.target,
                .entries = entries,
                .n = 1,
                .followers = &follower,
                .n_followers = 1};

        intent_make_id(call, id);
        message.conversation = (char *) call->intent.target;
        message.client_msg_id = id;
        message.sender = (char *) call->intent.source;
        message.created_at = (int64_t) call->intent.number;
        message.body_case = SC__MESSAGE__BODY_TEXT;
        message.text = (char *) effect;
        int r = read_last_seq(call, process->store, &append.after_seq);
        if (r < 0)
                return r;
        return append_and_wait(process->store, &append);
}

static Target *find_target(Process *process, const char *name) {
        FOREACH_ARRAY(target, process->targets, N_TARGETS)
                if (streq(target->name, name))
                        return target;
        abort();
}

static int take_in_by_append(Call *call, Process *process, const char *effect) {
        Target *target = find_target(process, call->intent.target);

        int r = intent_is_repeat(call, process->store);
        if (r != 0)
                return r;
        while (target->busy) {
                r = fiber_queue_wait(&target->waiting, UINT64_MAX);
                if (r < 0)
                        return r;
        }
        target->busy = true;
        do
                r = append_once(call, process, effect);
        while (r == -ESTALE);
        target->busy = false;
        fiber_queue_wake(&target->waiting);
        return r == -EEXIST ? 1 : r;
}

/* A counter of the source's effects, whose guard is its version. */
static int take_in_by_version(Call *call, Process *process) {
        Sc__Member key = SC__MEMBER__INIT, *member;
        const StoreChange change = {store_field(&sc__member__info, "read_seq"), STORE_INCREMENT};
        Sc__Received received;
        const StoreItem follower = intent_follower(call, &received);
        StoreWrite write = {.partition = call->intent.target,
                .guard = {.info = &sc__member__info, .record = &key.base},
                .followers = &follower,
                .n_followers = 1};

        for (;;) {
                key.conversation = (char *) call->intent.target;
                key.user = (char *) call->intent.source;
                key.read_seq = 1;
                int r = store_get(process->store, &call->arena, &sc__member__info, &key.base, &member);
                if (r < 0)
                        return r;
                write.guard.verb = r > 0 ? STORE_PATCH : STORE_INSERT;
                write.guard.changes = r > 0 ? &change : NULL;
                write.guard.n_changes = r > 0;
                key.version = r > 0 ? member->version : 0;
                r = intent_is_repeat(call, process->store);
                if (r != 0)
                        return r;
                r = store_write(process->store, &write, NULL);
                if (r != -ESTALE && r != -EEXIST)
                        return r;
        }
}

static Actor *find_actor(World *world, const char *name) {
        Process *process = name[0] == 'a' ? &world->a : &world->b;

        return &process->actors[name[1] - '0'];
}

static void note_answer(World *world, const char *effect) {
        char actor[3];
        unsigned cause, i;

        assert_se(sscanf(effect, "%2[^-]-%u-%u", actor, &cause, &i) == 3);
        find_actor(world, actor)->answered[cause][i] = true;
}

/* The effect is named by its cause; those with a '!' are refused as long as there is poison. */
static Sc__ErrorCode handle(Call *call, Process *process) {
        World *world = process->world;
        const char *effect;
        int r;

        if (call->method == &method_inbox_join) {
                effect = ((Sc__InboxJoinRequest *) call->request)->by;
                r = world->poison && strchr(effect, '!') ? -EPERM : take_in_by_version(call, process);
        } else {
                effect = ((Sc__InboxSessionEndedRequest *) call->request)->session;
                r = world->poison && strchr(effect, '!') ? -EPERM : take_in_by_append(call, process, effect);
        }
        note(world, effect, (uint64_t) r);
        if (r == 1)
                world->n_repeats++;
        else if (r == 0)
                world->n_effects++;
        if (r >= 0 || r == -EPERM)
                note_answer(world, effect);
        if (r == -EPERM)
                return ERROR_PERMISSION_DENIED;
        return r < 0 ? ERROR_TIMEOUT : ERROR_NONE;
}

static void run_handler(void *userdata) {
        Request *request = userdata;
        Process *process = &request->world->b;
        Call call = {.method = request->method,
                .intent = {.source = request->source, .number = request->number, .target = request->target}};

        arena_init(&call.arena, 1U << 20);
        int r = arena_unpack(&call.arena, request->method->request->descriptor, request->data, request->size,
                &call.request);
        assert_se(r >= 0);
        request_answer(request, handle(&call, process));
        arena_done(&call.arena);
        request_free(request);
}

static void handler_cancelled(int r, void *userdata) {
        request_answer(userdata, ERROR_UNAVAILABLE);
        request_free(userdata);
}

/* One thing happens to one request. */
static void network_step(World *world) {
        Request *request;
        unsigned n = 0;

        TAILQ_FOREACH(request, &world->requests, link)
                n++;
        if (n == 0)
                return;
        n = random_below(&world->random, n);
        TAILQ_FOREACH(request, &world->requests, link)
                if (n-- == 0)
                        break;
        if (world->faults && random_percent(&world->random, 10)) {
                /* The caller gives up: the request, or its handler, or its answer, is still on its way. */
                world->n_lost++;
                request_answer(
                        request, random_percent(&world->random, 50) ? ERROR_TIMEOUT : ERROR_UNAVAILABLE);
        } else if (!request->running && random_percent(&world->random, 50)) {
                const FiberStart start = {.main = run_handler,
                        .cancelled = handler_cancelled,
                        .userdata = request,
                        .internal = true};
                request->running = true;
                assert_se(fiber_start(world->b.fibers, &start, NULL) >= 0);
        }
}

/* The process's connections are gone; what it sent may be in the other's buffers. */
static void network_forget(World *world, Process *process) {
        Request *request, *next;

        for (request = TAILQ_FIRST(&world->requests); request; request = next) {
                next = TAILQ_NEXT(request, link);
                if (process == &world->a && random_percent(&world->random, 50))
                        continue;
                request_answer(request, ERROR_UNAVAILABLE);
                if (!request->running) /* else its handler ends with the process, or by itself */
                        request_free(request);
        }
}

/* --- causes --- */

static void make_effect_name(const Actor *actor, unsigned cause, unsigned i, char out[static 32]) {
        snprintf(out, 32, "%s-%u-%u%s", actor->name, cause, i, (cause + i) % 5 == 4 ? "!" : "");
}

/* How many intents a cause has, for whom and of which kind, follows from its name. */
static unsigned count_intents(unsigned cause) {
        return 1 + cause % MAX_INTENTS;
}
static unsigned pick_target(const Actor *actor, unsigned cause, unsigned i) {
        return ((unsigned) actor->name[1] + cause / 2 + i) % N_TARGETS;
}
static bool is_join(unsigned cause, unsigned i) {
        return (cause + i) % 3 == 1;
}

static int store_cause(Actor *actor, unsigned cause, StoreWritten *ret) {
        Process *process = actor->process;
        Sc__Session session = SC__SESSION__INIT;
        Sc__Member member = SC__MEMBER__INIT;
        Sc__InboxSessionEndedRequest ended[MAX_INTENTS];
        Sc__InboxJoinRequest joined[MAX_INTENTS];
        char id[32], effects[MAX_INTENTS][32];
        StoreIntent intents[MAX_INTENTS];
        StoreWrite write = {.partition = actor->name,
                .guard = {.verb = STORE_INSERT},
                .intents = intents,
                .n_intents = count_intents(cause)};

        snprintf(id, sizeof(id), "%s-%u", actor->name, cause);
        session.user = member.conversation = actor->name;
        session.id = member.user = id;
        write.guard.info = process == &process->world->a ? &sc__session__info : &sc__member__info;
        write.guard.record = process == &process->world->a ? &session.base : &member.base;
        for (unsigned i = 0; i < write.n_intents; i++) {
                make_effect_name(actor, cause, i, effects[i]);
                ended[i] = (Sc__InboxSessionEndedRequest) SC__INBOX_SESSION_ENDED_REQUEST__INIT;
                ended[i].session = effects[i];
                joined[i] = (Sc__InboxJoinRequest) SC__INBOX_JOIN_REQUEST__INIT;
                joined[i].by = effects[i];
                intents[i] = (StoreIntent){
                        .target = process->world->b.targets[pick_target(actor, cause, i)].name,
                        .method = is_join(cause, i) ? &method_inbox_join : &method_inbox_session_ended,
                        .request = is_join(cause, i) ? &joined[i].base : &ended[i].base};
        }
        return intents_write(process->intents, process->store, &write, ret);
}

static void act(void *userdata) {
        Actor *actor = userdata;
        Process *process = actor->process;
        World *world = process->world;

        while (actor->next < N_CAUSES && fiber_check_cancelled() == 0) {
                unsigned cause = actor->next++;
                StoreWritten written;

                int r = store_cause(actor, cause, &written);
                note(world, actor->name, (uint64_t) r);
                if (r < 0 || random_percent(&world->random, 50))
                        continue;
                r = intents_deliver(process->intents, actor->name, written.last_intent, UINT64_MAX);
                for (unsigned i = 0; r >= 0 && i < count_intents(cause); i++)
                        if (!actor->answered[cause][i])
                                fail_msg("seed %" PRIu64 ": %s-%u-%u counts as delivered", world->seed,
                                        actor->name, cause, i);
        }
        actor->running = false;
}

static void act_cancelled(int r, void *userdata) {
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

static void process_set_faults(Process *process) {
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
        FOREACH_ARRAY(actor, process->actors, N_SOURCES) {
                const FiberStart start = {.main = act, .cancelled = act_cancelled, .userdata = actor};
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
        FOREACH_ARRAY(target, process->targets, N_TARGETS)
                target->busy = false;
}

static void process_kill(Process *process) {
        note(process->world, process->name, ++process->world->n_crashes);
        if (!model_has_crashed(process->model))
                model_crash(process->model);
        network_forget(process->world, process);
        process_end(process);
        process_start(process);
}

static void process_init(Process *process, World *world, const char *name, char letter) {
        *process = (Process){.world = world, .name = name, .model = model_new(random_next(&world->random))};
        for (unsigned i = 0; i < N_SOURCES; i++) {
                process->actors[i].process = process;
                snprintf(process->actors[i].name, sizeof(process->actors[i].name), "%c%u", letter, i);
        }
        for (unsigned i = 0; i < N_TARGETS; i++)
                snprintf(process->targets[i].name, sizeof(process->targets[i].name), "#t%u", i);
}

/* --- the world --- */

static void iterate(World *world) {
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

        FOREACH_ARRAY(actor, process->actors, N_SOURCES)
                if (actor->running)
                        return false;
        assert_se(intents_statistics(process->intents, &pending, 1) == 1);
        return pending.value == 0 && intents_is_idle(process->intents);
}

static void run_until_quiet(World *world) {
        unsigned i = 0;

        while (!is_quiet(&world->a) || !is_quiet(&world->b) || !TAILQ_EMPTY(&world->requests)) {
                if (++i > MAX_ITERATIONS)
                        fail_msg("seed %" PRIu64 ": nothing goes on", world->seed);
                iterate(world);
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

static void on_fiber(World *world, void (*run)(World *world)) {
        Task task = {run, world};
        const FiberStart start = {.main = run_task, .userdata = &task};

        world->done = false;
        assert_int_equal(fiber_start(world->b.fibers, &start, NULL), 0);
        for (unsigned i = 0; !world->done; i++) {
                assert_true(i < MAX_ITERATIONS);
                iterate(world);
        }
}

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
        unsigned counts[N_TARGETS] = {};
        Sc__Intent from = SC__INTENT__INIT;

        for (unsigned cause = 0; cause < N_CAUSES; cause++) {
                unsigned expected = is_stored(actor, arena, cause);
                for (unsigned i = 0; i < count_intents(cause); i++) {
                        char effect[32];
                        make_effect_name(actor, cause, i, effect);
                        unsigned t = pick_target(actor, cause, i);
                        if (is_join(cause, i)) {
                                counts[t] += expected;
                                continue;
                        }
                        unsigned n = count_entries(world, arena, world->b.targets[t].name, effect);
                        if (n != expected)
                                fail_msg("seed %" PRIu64 ": %s is there %u times instead of %u", world->seed,
                                        effect, n, expected);
                }
        }
        for (unsigned t = 0; t < N_TARGETS; t++) {
                check_count(world, arena, &world->b.targets[t], actor, counts[t]);
                check_order(world, arena, world->b.targets[t].name, actor);
        }
        from.source = actor->name;
        assert_int_equal(read_all(actor->process, arena, &sc__intent__info, &from.base)->n, 0);
}

static void check(World *world) {
        _cleanup_arena_ Arena arena;

        arena_init(&arena, SIZE_MAX);
        FOREACH_ARRAY(actor, world->a.actors, N_SOURCES)
                check_actor(world, &arena, actor);
        FOREACH_ARRAY(actor, world->b.actors, N_SOURCES)
                check_actor(world, &arena, actor);
}

static uint64_t live(uint64_t seed, World *world) {
        *world = (World){.seed = seed, .random = {seed}, .faults = true, .poison = true, .late = seed % 2};
        TAILQ_INIT(&world->requests);
        assert_se(sd_event_new(&world->event) >= 0);
        process_init(&world->a, world, "accounts", 'a');
        process_init(&world->b, world, "conversations", 'b');
        process_start(&world->a);
        process_start(&world->b);

        run_until_quiet(world);
        world->faults = world->poison = false;
        process_set_faults(&world->a);
        process_set_faults(&world->b);
        model_settle(world->a.model);
        model_settle(world->b.model);
        if (world->late) {
                process_kill(&world->a);
                process_kill(&world->b);
        }
        run_until_quiet(world);
        on_fiber(world, retry_parked);
        run_until_quiet(world);
        on_fiber(world, check);

        process_end(&world->a);
        process_end(&world->b);
        model_free(world->a.model);
        model_free(world->b.model);
        sd_event_unref(world->event);
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
