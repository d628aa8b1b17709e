/* SPDX-License-Identifier: Apache-2.0 */
#include "intents-fixture.h"

#include <stdio.h>
#include <unistd.h>

#include "util/string-util.h"

const char *kind;
struct fixture f;

/* In place of the dispatcher's, by the linker's --wrap. */
int __wrap_dispatcher_deliver(
        Dispatcher *dispatcher, const DispatcherDelivery *delivery, DispatcherOutcome *ret);

int __wrap_dispatcher_deliver(
        Dispatcher *dispatcher, const DispatcherDelivery *delivery, DispatcherOutcome *ret) {
        Delivery *noted = &f.deliveries[f.n_deliveries++];
        _cleanup_arena_ Arena arena;
        Sc__InboxSessionEndedRequest *request;

        arena_init(&arena, 1U << 16);
        assert_se(f.n_deliveries < MAX_DELIVERIES);
        snprintf(noted->source, sizeof(noted->source), "%s", delivery->source);
        snprintf(noted->target, sizeof(noted->target), "%s", delivery->target);
        noted->number = delivery->number;
        noted->at_usec = boottime_usec();
        int r = arena_unpack(&arena, delivery->method->request->descriptor, delivery->request,
                delivery->request_size, (ProtobufCMessage **) &request);
        assert_se(r >= 0);
        snprintf(noted->session, sizeof(noted->session), "%s", request->session);
        f.n_held++;
        f.max_held = MAX(f.max_held, f.n_held);
        while (f.held && r >= 0)
                r = fiber_queue_wait(&f.waiting, UINT64_MAX);
        f.n_held--;
        if (r < 0)
                return r;
        *ret = (DispatcherOutcome){.code = f.answer ? f.answer(noted) : ERROR_NONE, .detail = "because"};
        return 0;
}

bool no_memory;
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_calloc(size_t n, size_t size) {
        return no_memory ? NULL : __real_calloc(n, size);
}

/* --- processes --- */

static const MessageInfo *const records[] = {
        &sc__session__info,
        &sc__intent__info,
        &sc__intent_counter__info,
        &sc__received__info,
        NULL,
};

void start_without_intents(void) {
        const StoreConfig config = {.kind = kind,
                .name = "accounts",
                .directory = f.directory,
                .records = records,
                .n_readers = 1,
                .batch_operations = 64,
                .max_queued = 1000};
        const FiberPoolConfig pool = {
                .max_fibers = 64, .n_internal = 8, .max_queued = 1000, .max_queued_per_key = 1000};

        assert_int_equal(fiber_pool_new(&f.fibers, f.event, &pool), 0);
        assert_int_equal(store_open(&f.store, f.event, &config), 0);
}

void start_intents(void) {
        assert_int_equal(intents_new(&f.intents, f.event, f.fibers, f.store, NULL), 0);
}

void stop(void) {
        if (f.intents)
                intents_stop(f.intents);
        fiber_pool_cancel_all(f.fibers);
        f.store = store_close(f.store);
        f.intents = intents_free(f.intents);
        f.fibers = fiber_pool_free(f.fibers);
}

int setup_empty(void **state) {
        f = (struct fixture){.model = model_new(1), .directory = "/tmp/stonechat-test-XXXXXX"};
        assert_se(mkdtemp(f.directory));
        assert_se(sd_event_new(&f.event) >= 0);
        model_use(f.model, "model");
        start_without_intents();
        return 0;
}

int setup(void **state) {
        setup_empty(state);
        start_intents();
        return 0;
}

static void remove_directory(void) {
        static const char *const names[] = {"accounts.db", "accounts.db-wal", "accounts.db-shm"};
        char path[128];

        FOREACH_ARRAY(name, names, ELEMENTSOF(names)) {
                snprintf(path, sizeof(path), "%s/%s", f.directory, *name);
                (void) unlink(path);
        }
        (void) rmdir(f.directory);
}

int teardown(void **state) {
        f.held = false;
        stop();
        remove_directory();
        f.model = model_free(f.model);
        f.event = sd_event_unref(f.event);
        return 0;
}

void run_until(bool (*condition)(void)) {
        uint64_t end = boottime_usec() + TIMEOUT_USEC;

        while (!condition()) {
                assert_true(boottime_usec() < end);
                assert_true(sd_event_run(f.event, 10 * USEC_PER_MSEC) >= 0);
        }
}

typedef struct Task {
        void (*run)(void *userdata);
        void *userdata;
        bool done;
} Task;

static void run_task(void *userdata) {
        Task *task = userdata;

        task->run(task->userdata);
        task->done = true;
}

void on_fiber(void (*run)(void *userdata), void *userdata) {
        Task task = {run, userdata, false};
        const FiberStart start = {.main = run_task, .userdata = &task};
        uint64_t end = boottime_usec() + TIMEOUT_USEC;

        assert_int_equal(fiber_start(f.fibers, &start, NULL), 0);
        while (!task.done) {
                assert_true(boottime_usec() < end);
                assert_true(sd_event_run(f.event, 10 * USEC_PER_MSEC) >= 0);
        }
}

/* --- what tests do --- */

uint64_t statistic(const char *name) {
        BusStatistic all[8];
        size_t n = intents_statistics(f.intents, all, ELEMENTSOF(all));

        FOREACH_ARRAY(one, all, n)
                if (streq(one->name, name))
                        return one->value;
        fail_msg("no statistic %s", name);
        return 0;
}

bool is_empty(void) {
        return statistic("intents_pending") == 0 && intents_is_idle(f.intents);
}

void run_until_delivered(unsigned n) {
        uint64_t end = boottime_usec() + TIMEOUT_USEC;

        while (f.n_deliveries < n) {
                assert_true(boottime_usec() < end);
                assert_true(sd_event_run(f.event, 10 * USEC_PER_MSEC) >= 0);
        }
}

void store_causes(void *userdata) {
        Cause *cause = userdata;

        for (unsigned i = 0; i < cause->n; i++) {
                Sc__InboxSessionEndedRequest request = SC__INBOX_SESSION_ENDED_REQUEST__INIT;
                Sc__Session session = SC__SESSION__INIT;
                char id[UUID_TEXT_SIZE], name[32];
                const StoreIntent intent = {.target = cause->targets[i % cause->n_targets],
                        .method = cause->method ?: &method_inbox_session_ended,
                        .request = &request.base};
                const StoreWrite write = {.partition = cause->source,
                        .guard = {.verb = STORE_INSERT, .info = &sc__session__info, .record = &session.base},
                        .intents = &intent,
                        .n_intents = 1};

                uuid_v7(id);
                snprintf(name, sizeof(name), "%u", i);
                session.user = (char *) cause->source;
                session.id = id;
                request.user = (char *) "ada";
                request.session = name;
                cause->r = f.intents ? intents_write(f.intents, f.store, &write, &cause->written)
                                     : store_write(f.store, &write, &cause->written);
                if (cause->r < 0)
                        return;
        }
}

void cause(const char *source, const char *target, unsigned n) {
        Cause cause = {.source = source, .targets = &target, .n_targets = 1, .n = n};

        on_fiber(store_causes, &cause);
        assert_int_equal(cause.r, 0);
}

static void count_rows(void *userdata) {
        _cleanup_arena_ Arena arena;
        Sc__Intent from = SC__INTENT__INIT;
        unsigned *n = userdata;
        StoreRows *rows;

        arena_init(&arena, SIZE_MAX);
        *n = 0;
        for (unsigned shard = 0; shard < SHARDS_DEFAULT; shard++) {
                from.shard = shard;
                const StoreRead read = {.info = &sc__intent__info,
                        .index = store_index(&sc__intent__info, "intents_by_shard"),
                        .from = &from.base,
                        .n_prefix = 1,
                        .limit = 10000};
                assert_int_equal(store_read(f.store, &arena, &read, 1, &rows), 0);
                *n += rows->n;
        }
}

unsigned rows(void) {
        unsigned n;

        on_fiber(count_rows, &n);
        return n;
}

unsigned count(const char *source, const char *target) {
        unsigned n = 0;

        FOREACH_ARRAY(delivery, f.deliveries, f.n_deliveries)
                n += (!source || streq(delivery->source, source)) &&
                     (!target || streq(delivery->target, target));
        return n;
}

void assert_in_order(const char *source, const char *target, unsigned n) {
        uint64_t last = 0;

        FOREACH_ARRAY(delivery, f.deliveries, f.n_deliveries)
                if (streq(delivery->source, source) && streq(delivery->target, target)) {
                        assert_true(delivery->number > last);
                        last = delivery->number;
                }
        assert_int_equal(count(source, target), n);
}
