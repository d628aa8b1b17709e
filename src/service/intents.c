/* SPDX-License-Identifier: Apache-2.0 */

/* The deliverer. What is known of a source (a partition with pending intents) is a Source; it exists while
 * there is something to do for it. Sources that can go on stand in `ready`; some fibers, the workers, take
 * one after the other from there, and read and deliver one page of its intents at a turn.
 *
 * A pass reads the intents of a source from the first one pending to the last. Where a delivery fails for
 * now its target is held back: for the rest of the pass, so that nothing overtakes, and until the delay is
 * over.
 *
 * What is counted as pending are rows of the store: told by intents_stored(), seen before that in a pass
 * (`counted` is the highest number that is counted), and set right at the end of each pass, by what was seen
 * and what was told after the last page was read. */

#include "service/intents.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/queue.h>

#include "log/log.h"
#include "log/message-ids.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* Out of memory is an error like any other: the element's tbl is NULL then. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define RETRY_MIN_USEC (50 * USEC_PER_MSEC)
#define RETRY_MAX_USEC (5 * USEC_PER_SEC)
#define MAX_WORKERS 16U
#define PAGE 64U /* intents of one turn */
/* So often a source is read after an unknown outcome: for two minutes, longer than a back end leaves a
 * statement under way. */
#define LOOKS 30U
/* A target that does not know a method is of an older release, or will never know it. */
#define UNKNOWN_METHOD_MAX_MSEC (60 * 60 * 1000)
#define ARENA_MAX (4U << 20)

/* A target that is held back. */
typedef struct Target {
        UT_hash_handle hh;
        uint64_t until_usec;
        uint64_t pass; /* nothing is sent to it in this pass */
        unsigned n_failures;
        char name[];
} Target;

typedef enum SourceState {
        SOURCE_IDLE, /* and perhaps its timer runs */
        SOURCE_READY,
        SOURCE_RUNNING,
} SourceState;

typedef struct Source {
        UT_hash_handle hh;
        TAILQ_ENTRY(Source) link; /* in ready */
        Intents *intents;
        SourceState state;
        bool again; /* something was stored since the last page was read */
        unsigned n_looks; /* so often still after an unknown outcome */
        unsigned n_failures; /* of the store, one after the other */
        sd_event_source *timer;

        uint64_t pending;
        uint64_t counted;
        uint64_t settled; /* all up to this number are delivered or parked */
        uint64_t gone; /* all up to this number are deleted or parked */

        uint64_t pass; /* grows */
        bool in_pass;
        uint64_t cursor; /* the pass has read up to here */
        uint64_t n_remaining; /* rows seen in the pass that stay */
        uint64_t first_unsettled; /* of the pass; 0: none yet */

        Target *targets;
        unsigned n_waiters;
        FiberQueue waiters;
        char name[];
} Source;

typedef struct Worker {
        Intents *intents;
        Fiber *fiber;
        bool running;
} Worker;

struct Intents {
        sd_event *event;
        FiberPool *fibers;
        Store *store;
        Dispatcher *dispatcher;
        sd_event_source *starter; /* starts workers, from the loop */
        Worker workers[MAX_WORKERS];
        unsigned n_workers;
        Source *sources;
        TAILQ_HEAD(, Source) ready;
        bool found; /* all that a former process has left */
        bool stopping;
        uint64_t retry_min_usec, retry_max_usec;

        uint64_t n_pending, n_reserved, n_parked;
        uint64_t n_delivered, n_retried;
};

static uint64_t retry_delay(const Intents *intents, unsigned n_failures) {
        uint64_t usec = MIN(intents->retry_min_usec << MIN(n_failures, 16U), intents->retry_max_usec);
        uint32_t random;

        unique_bytes(&random, sizeof(random));
        return usec - (usec * (random % 256)) / 512; /* between half of it and all */
}

/* --- sources --- */

static Source *source_free(Source *source) {
        Target *target, *next;

        HASH_ITER(hh, source->targets, target, next) {
                HASH_DEL(source->targets, target);
                free(target);
        }
        sd_event_source_disable_unref(source->timer);
        return mfree(source);
}

static Source *source_find(const Intents *intents, const char *name) {
        Source *source;

        HASH_FIND_STR(intents->sources, name, source);
        return source;
}

/* The source, made if there is none; NULL when out of memory. */
static Source *source_get(Intents *intents, const char *name) {
        Source *source = source_find(intents, name);
        size_t size = strlen(name) + 1;

        if (source)
                return source;
        source = calloc(1, sizeof(Source) + size);
        if (!source)
                return NULL;
        source->intents = intents;
        memcpy(source->name, name, size);
        HASH_ADD_STR(intents->sources, name, source);
        if (!source->hh.tbl)
                return mfree(source);
        return source;
}

static void source_forget_if_done(Source *source) {
        Intents *intents = source->intents;

        if (source->state != SOURCE_IDLE || source->timer || source->n_waiters > 0)
                return;
        intents->n_pending -= source->pending;
        HASH_DEL(intents->sources, source);
        source_free(source);
}

static void source_set_pending(Source *source, uint64_t pending) {
        source->intents->n_pending += pending - source->pending;
        source->pending = pending;
}

static void source_settle(Source *source, uint64_t number) {
        if (number <= source->settled)
                return;
        source->settled = number;
        fiber_queue_wake(&source->waiters);
}

static void start_workers(Intents *intents, uint64_t usec) {
        if (intents->stopping)
                return;
        (void) sd_event_source_set_time_relative(intents->starter, usec);
        (void) sd_event_source_set_enabled(intents->starter, SD_EVENT_ONESHOT);
}

/* It can go on now. */
static void source_wake(Source *source) {
        Intents *intents = source->intents;

        source->again = true;
        if (source->state != SOURCE_IDLE || intents->stopping)
                return;
        source->timer = sd_event_source_disable_unref(source->timer);
        source->state = SOURCE_READY;
        TAILQ_INSERT_TAIL(&intents->ready, source, link);
        start_workers(intents, 0);
}

static int on_source_timer(sd_event_source *timer, uint64_t usec, void *userdata) {
        source_wake(userdata);
        return 0;
}

static void source_sleep(Source *source, uint64_t usec) {
        source->state = SOURCE_IDLE;
        source->timer = sd_event_source_disable_unref(source->timer);
        int r = sd_event_add_time_relative(source->intents->event, &source->timer, CLOCK_BOOTTIME, usec,
                USEC_PER_MSEC, on_source_timer, source);
        if (r < 0) {
                log_error_errno(r, "Failed to set a timer: %m");
                source_wake(source);
        }
}

/* --- targets that are held back --- */

static Target *target_find(const Source *source, const char *name) {
        Target *target;

        HASH_FIND_STR(source->targets, name, target);
        return target;
}

static bool target_is_held(const Source *source, const char *name) {
        Target *target = target_find(source, name);

        if (!target || (target->pass != source->pass && target->until_usec <= boottime_usec()))
                return false;
        target->pass = source->pass; /* also if the delay ends during the pass */
        return true;
}

static int target_hold(Source *source, const char *name) {
        Target *target = target_find(source, name);
        size_t size = strlen(name) + 1;

        if (!target) {
                target = calloc(1, sizeof(Target) + size);
                if (!target)
                        return -ENOMEM;
                memcpy(target->name, name, size);
                HASH_ADD_STR(source->targets, name, target);
                if (!target->hh.tbl) {
                        free(target);
                        return -ENOMEM;
                }
        }
        target->pass = source->pass;
        target->until_usec = boottime_usec() + retry_delay(source->intents, target->n_failures++);
        return 0;
}

static void target_release(Source *source, const char *name) {
        Target *target = target_find(source, name);

        if (!target)
                return;
        HASH_DEL(source->targets, target);
        free(target);
}

/* When the first of those that the pass has met may be tried again, from now. */
static uint64_t targets_delay(const Source *source) {
        uint64_t now = boottime_usec(), first = now + source->intents->retry_max_usec;

        for (const Target *target = source->targets; target; target = target->hh.next)
                if (target->pass == source->pass)
                        first = MIN(first, target->until_usec);
        return first > now ? first - now : 0;
}

/* --- a turn: one page of one source --- */

typedef struct Turn {
        Intents *intents;
        Source *source;
        Arena arena;
        StoreRows rows;
        const Sc__Intent **done; /* to be deleted, n of them */
        size_t n_done;
} Turn;

static int turn_read(Turn *turn) {
        Sc__Intent from = SC__INTENT__INIT;
        const StoreRead read = {
                .info = &sc__intent__info, .from = &from.base, .n_prefix = 1, .after = true, .limit = PAGE};
        StoreRows *rows;

        from.source = turn->source->name;
        from.number = turn->source->cursor;
        int r = store_read(turn->intents->store, &turn->arena, &read, 1, &rows);
        if (r < 0)
                return r;
        turn->rows = *rows;
        turn->done = arena_new(&turn->arena, const Sc__Intent *, rows->n);
        return turn->done ? 0 : -ENOMEM;
}

static Trace intent_trace(const Sc__Intent *intent) {
        Trace trace = {.parent = intent->trace_parent, .sampled = intent->trace_sampled};

        if (intent->trace_id.len == sizeof(trace.id))
                memcpy(trace.id, intent->trace_id.data, sizeof(trace.id));
        return trace;
}

static int send_intent(Turn *turn, const Sc__Intent *intent, DispatcherOutcome *ret) {
        const MethodInfo *method = schema_find_method(intent->method);
        const Trace trace = intent_trace(intent);
        const DispatcherDelivery delivery = {.method = method,
                .request = intent->request.data,
                .request_size = intent->request.len,
                .source = intent->source,
                .number = intent->number,
                .target = intent->target,
                .trace = intent->trace_id.len > 0 ? &trace : NULL};

        if (!method) {
                *ret = (DispatcherOutcome){.code = ERROR_METHOD_NOT_FOUND};
                return 0;
        }
        return dispatcher_deliver(turn->intents->dispatcher, &delivery, ret);
}

static bool is_permanent(const Sc__Intent *intent, Sc__ErrorCode code) {
        if (code == ERROR_METHOD_NOT_FOUND)
                return unix_msec() - intent->created_at > UNKNOWN_METHOD_MAX_MSEC;
        return !schema_error(code)->temporary;
}

static int park(Turn *turn, const Sc__Intent *intent, const DispatcherOutcome *outcome) {
        const char *error = schema_error(outcome->code)->name;
        const StoreChange changes[] = {{store_field(&sc__intent__info, "parked"), STORE_SET},
                {store_field(&sc__intent__info, "reason"), STORE_SET}};
        Sc__Intent parked = SC__INTENT__INIT;
        const StoreItem item = {.verb = STORE_PATCH,
                .info = &sc__intent__info,
                .record = &parked.base,
                .changes = changes,
                .n_changes = ELEMENTSOF(changes)};
        const Trace trace = intent_trace(intent);

        parked.source = intent->source;
        parked.number = intent->number;
        parked.parked = true;
        parked.reason = isempty(outcome->detail)
                                ? arena_strdup(&turn->arena, error)
                                : arena_printf(&turn->arena, "%s: %s", error, outcome->detail);
        if (!parked.reason)
                return -ENOMEM;
        int r = store_write_one(turn->intents->store, intent->source, &item, NULL);
        if (r == -ENOENT)
                return 0; /* somebody else has delivered it */
        if (r < 0)
                return r;
        turn->intents->n_parked++;
        log_with((.message_id = MESSAGE_ID_INTENT_PARKED, .trace = &trace, .method = intent->method,
                         .error = error),
                LOG_WARNING, "%s refuses intent %" PRIu64 " of %s for good, it is parked: %s",
                intent->target, intent->number, intent->source, parked.reason);
        return 0;
}

static void stays(Source *source, const Sc__Intent *intent) {
        source->n_remaining++;
        if (source->first_unsettled == 0)
                source->first_unsettled = intent->number;
}

static void settled(Source *source, const Sc__Intent *intent) {
        if (source->first_unsettled == 0)
                source_settle(source, intent->number);
}

/* Negative: the turn ends here; nothing is known of this intent. */
static int deliver_one(Turn *turn, const Sc__Intent *intent) {
        Source *source = turn->source;
        DispatcherOutcome outcome = {};

        if (target_is_held(source, intent->target)) {
                stays(source, intent);
                return 0;
        }
        int r = send_intent(turn, intent, &outcome);
        if (r < 0)
                return r;
        if (outcome.code == ERROR_NONE) {
                target_release(source, intent->target);
                turn->done[turn->n_done++] = intent;
                turn->intents->n_delivered++;
                settled(source, intent);
                return 0;
        }
        if (is_permanent(intent, outcome.code)) {
                r = park(turn, intent, &outcome);
                if (r < 0)
                        return r;
                target_release(source, intent->target);
                source_set_pending(source, source->pending - MIN(source->pending, 1U));
                settled(source, intent);
                return 0;
        }
        log_debug("Intent %" PRIu64 " of %s for %s is tried again: %s %s", intent->number, source->name,
                intent->target, schema_error(outcome.code)->name, outcome.detail);
        turn->intents->n_retried++;
        stays(source, intent);
        return target_hold(source, intent->target);
}

static int deliver_page(Turn *turn) {
        Source *source = turn->source;

        for (size_t i = 0; i < turn->rows.n; i++) {
                const Sc__Intent *intent = (const Sc__Intent *) turn->rows.records[i];

                if (turn->intents->stopping)
                        return -ECANCELED;
                if (intent->number > source->counted) {
                        source->counted = intent->number;
                        source_set_pending(source, source->pending + !intent->parked);
                }
                if (!intent->parked) {
                        int r = deliver_one(turn, intent);
                        if (r < 0)
                                return r;
                } else
                        settled(source, intent);
                source->cursor = intent->number;
        }
        return 0;
}

/* One write for all of the page: the first is the guard. If somebody else has deleted that one, none is
 * deleted, and all that are still there are delivered again, which does nothing. */
static int delete_done(Turn *turn) {
        Sc__Intent *keys;
        StoreItem *items;

        if (turn->n_done == 0)
                return 0;
        keys = arena_new(&turn->arena, Sc__Intent, turn->n_done);
        items = arena_new(&turn->arena, StoreItem, turn->n_done);
        if (!keys || !items)
                return -ENOMEM;
        for (size_t i = 0; i < turn->n_done; i++) {
                keys[i] = (Sc__Intent) SC__INTENT__INIT;
                keys[i].source = turn->source->name;
                keys[i].number = turn->done[i]->number;
                items[i] = (StoreItem){
                        .verb = STORE_DELETE, .info = &sc__intent__info, .record = &keys[i].base};
        }
        const StoreWrite write = {.partition = turn->source->name,
                .guard = items[0],
                .followers = items + 1,
                .n_followers = turn->n_done - 1};
        int r = store_write(turn->intents->store, &write, NULL);
        if (r < 0)
                return r;
        source_set_pending(turn->source, turn->source->pending - MIN(turn->source->pending, turn->n_done));
        return 0;
}

/* All of the source was read; `horizon` was counted when the last page was. */
static void end_pass(Source *source, uint64_t horizon) {
        uint64_t seen = MAX(horizon, source->cursor);

        source->in_pass = false;
        source->n_failures = 0;
        source->gone = source->first_unsettled > 0 ? source->first_unsettled - 1 : seen;
        source_set_pending(
                source, source->n_remaining + (source->counted > seen ? source->counted - seen : 0));
        source_settle(source, source->gone);
}

/* What becomes of the source after a pass. */
static void rest(Source *source) {
        Intents *intents = source->intents;

        source->state = SOURCE_IDLE;
        if (source->again)
                source_wake(source);
        else if (source->n_remaining > 0)
                source_sleep(source, targets_delay(source));
        else if (source->n_looks > 0)
                source_sleep(source, retry_delay(intents, LOOKS - source->n_looks--));
        else
                source_forget_if_done(source);
}

static int run_turn(Turn *turn, bool *ret_more) {
        Source *source = turn->source;

        if (!source->in_pass) {
                source->in_pass = true;
                source->pass++;
                source->cursor = source->gone;
                source->n_remaining = 0;
                source->first_unsettled = 0;
        }
        source->again = false;
        uint64_t horizon = source->counted;
        int r = turn_read(turn);
        if (r < 0)
                return r;
        r = deliver_page(turn);
        int q = delete_done(turn); /* also if the fiber was cancelled */
        if (r < 0 || q < 0)
                return r < 0 ? r : q;
        if (!turn->rows.more)
                end_pass(source, horizon);
        *ret_more = turn->rows.more;
        return 0;
}

static void source_turn(Source *source) {
        Intents *intents = source->intents;
        Turn turn = {.intents = intents, .source = source};
        bool more = false;

        arena_init(&turn.arena, ARENA_MAX);
        int r = run_turn(&turn, &more);
        arena_done(&turn.arena);
        /* All fibers are cancelled when a role ends, perhaps before it says so here. */
        if (fiber_check_cancelled() < 0)
                intents->stopping = true;
        if (intents->stopping) {
                source->state = SOURCE_IDLE;
                return;
        }
        if (r < 0) {
                log_peer((.error_number = -r), LOG_WARNING,
                        "Failed to deliver the intents of %s, trying again: %m", source->name);
                source->in_pass = false;
                source_sleep(source, retry_delay(intents, source->n_failures++));
        } else if (more) {
                source->state = SOURCE_IDLE;
                source_wake(source);
        } else
                rest(source);
}

/* --- workers --- */

static void worker_end(int r, void *userdata) {
        Worker *worker = userdata;

        worker->running = false;
        worker->fiber = NULL;
        worker->intents->n_workers--;
        if (r < 0) /* it was cancelled before it had a stack */
                start_workers(worker->intents, 0);
}

static void deliver_ready(void *userdata) {
        Worker *worker = userdata;
        Intents *intents = worker->intents;
        Source *source;

        worker->fiber = fiber_current();
        while (!intents->stopping && (source = TAILQ_FIRST(&intents->ready))) {
                TAILQ_REMOVE(&intents->ready, source, link);
                source->state = SOURCE_RUNNING;
                source_turn(source);
        }
        worker_end(0, worker);
}

static int worker_start(Intents *intents, void (*main)(void *userdata)) {
        Worker *worker = intents->workers;
        Fiber *fiber;

        while (worker->running)
                worker++;
        *worker = (Worker){.intents = intents, .running = true};
        intents->n_workers++;
        const FiberStart start = {
                .main = main, .cancelled = worker_end, .userdata = worker, .key = "intents"};
        int r = fiber_start(intents->fibers, &start, &fiber);
        if (r < 0)
                worker_end(0, worker);
        else if (worker->running)
                worker->fiber = fiber;
        return r;
}

static unsigned count_ready(const Intents *intents) {
        const Source *source;
        unsigned n = 0;

        TAILQ_FOREACH(source, &intents->ready, link)
                if (++n == MAX_WORKERS)
                        break;
        return n;
}

/* --- what a former process has left --- */

/* Goes through the rows of a shard, source by source: `after` is the last row of the page before. */
static int read_shard(Intents *intents, unsigned shard, const Sc__Intent *after, bool in_source,
        Arena *arena, StoreRows **ret) {
        Sc__Intent from = SC__INTENT__INIT;
        const StoreRead read = {.info = &sc__intent__info,
                .index = store_index(&sc__intent__info, "intents_by_shard"),
                .from = &from.base,
                .n_prefix = in_source ? 2 : 1,
                .after = after->source[0] != 0,
                .limit = PAGE};

        from.shard = shard;
        from.source = after->source;
        from.number = after->number;
        return store_read(intents->store, arena, &read, 1, ret);
}

typedef int (*IntentVisitor)(Intents *intents, const Sc__Intent *intent, void *userdata);

/* Calls the visitor for every intent of a shard, which may suspend. Stops at the first negative result. */
static int visit_shard(Intents *intents, unsigned shard, IntentVisitor visit, void *userdata) {
        _cleanup_free_ char *source = NULL;
        Sc__Intent after = SC__INTENT__INIT;
        bool more = true, in_source = false;

        while (more || in_source) {
                _cleanup_arena_ Arena arena;
                StoreRows *rows;

                arena_init(&arena, ARENA_MAX);
                int r = read_shard(intents, shard, &after, in_source, &arena, &rows);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < rows->n; i++) {
                        r = visit(intents, (const Sc__Intent *) rows->records[i], userdata);
                        if (r < 0)
                                return r;
                }
                if (!in_source)
                        more = rows->more;
                in_source = rows->more; /* the rest of the last source, then those behind it */
                if (rows->n == 0)
                        continue;
                const Sc__Intent *last = (const Sc__Intent *) rows->records[rows->n - 1];
                free(source);
                source = strdup(last->source);
                if (!source)
                        return -ENOMEM;
                after.source = source;
                after.number = last->number;
        }
        return 0;
}

static int find_one(Intents *intents, const Sc__Intent *intent, void *userdata) {
        uint64_t *n_parked = userdata;
        Source *source;

        if (intent->parked) {
                (*n_parked)++;
                return 0;
        }
        source = source_get(intents, intent->source);
        if (!source)
                return -ENOMEM;
        if (intent->number > source->counted) {
                source->counted = intent->number;
                source_set_pending(source, source->pending + 1);
        }
        source_wake(source);
        return 0;
}

static int find_in_shard(Intents *intents, unsigned shard) {
        uint64_t n_parked = 0;

        int r = visit_shard(intents, shard, find_one, &n_parked);
        if (r >= 0)
                intents->n_parked += n_parked;
        return r;
}

static void find_all(void *userdata) {
        Worker *worker = userdata;
        Intents *intents = worker->intents;
        unsigned shard = 0, n_failures = 0;

        worker->fiber = fiber_current();
        while (shard < SHARDS_DEFAULT && fiber_check_cancelled() == 0) {
                int r = find_in_shard(intents, shard);
                if (r >= 0) {
                        shard++;
                        continue;
                }
                log_peer((.error_number = -r), LOG_WARNING, "Failed to look for intents, trying again: %m");
                (void) fiber_sleep(retry_delay(intents, n_failures++));
        }
        intents->found = shard == SHARDS_DEFAULT;
        if (intents->n_pending > 0)
                log_info("Found intents to be delivered: %" PRIu64 ".", intents->n_pending);
        worker_end(0, worker);
        start_workers(intents, 0);
}

static int on_start(sd_event_source *event_source, uint64_t usec, void *userdata) {
        Intents *intents = userdata;
        unsigned n = intents->found ? count_ready(intents) : intents->n_workers == 0;

        for (; n > 0 && intents->n_workers < MAX_WORKERS; n--)
                if (worker_start(intents, intents->found ? deliver_ready : find_all) < 0) {
                        start_workers(intents, intents->retry_min_usec);
                        break;
                }
        return 0;
}

/* --- the object --- */

int intents_new(Intents **ret, sd_event *event, FiberPool *fibers, Store *store, Dispatcher *dispatcher) {
        _cleanup_(intents_freep) Intents *intents = new0(Intents, 1);

        if (!intents)
                return -ENOMEM;
        *intents = (Intents){.event = event,
                .fibers = fibers,
                .store = store,
                .dispatcher = dispatcher,
                .retry_min_usec = RETRY_MIN_USEC,
                .retry_max_usec = RETRY_MAX_USEC};
        TAILQ_INIT(&intents->ready);
        int r = sd_event_add_time_relative(
                event, &intents->starter, CLOCK_BOOTTIME, 0, 1, on_start, intents);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(intents);
        return 0;
}

void intents_set_retry(Intents *intents, uint64_t min_usec, uint64_t max_usec) {
        intents->retry_min_usec = min_usec;
        intents->retry_max_usec = max_usec;
}

void intents_stop(Intents *intents) {
        intents->stopping = true;
        intents->starter = sd_event_source_disable_unref(intents->starter);
        for (Source *source = intents->sources; source; source = source->hh.next) {
                source->timer = sd_event_source_disable_unref(source->timer);
                fiber_queue_wake(&source->waiters);
        }
        FOREACH_ARRAY(worker, intents->workers, MAX_WORKERS)
                if (worker->running && worker->fiber)
                        fiber_cancel(worker->fiber, -ECANCELED);
}

bool intents_is_idle(const Intents *intents) {
        return intents->n_workers == 0;
}

Intents *intents_free(Intents *intents) {
        Source *source, *next;

        if (!intents)
                return NULL;
        assert_se(intents->n_workers == 0);
        sd_event_source_disable_unref(intents->starter);
        HASH_ITER(hh, intents->sources, source, next) {
                HASH_DEL(intents->sources, source);
                source_free(source);
        }
        return mfree(intents);
}

/* --- at the source --- */

int intents_check_room(const Intents *intents) {
        return intents->n_pending + intents->n_reserved < INTENTS_MAX_PENDING ? 0 : -EBUSY;
}

void intents_stored(Intents *intents, const char *name, uint64_t last, size_t n) {
        Source *source = source_find(intents, name);

        if (intents->stopping)
                return;
        if (!source) {
                source = source_get(intents, name);
                if (!source) {
                        /* It stands in the store; the next write of the source, or the next process, finds
                         * it. */
                        log_oom();
                        return;
                }
        }
        if (last > source->counted) {
                source_set_pending(source, source->pending + MIN(n, last - source->counted));
                source->counted = last;
        }
        source_wake(source);
}

void intents_look(Intents *intents, const char *name) {
        Source *source = source_get(intents, name);

        if (!source) {
                log_oom();
                return;
        }
        source->n_looks = LOOKS;
        source_wake(source);
}

int intents_write(Intents *intents, Store *store, const StoreWrite *write, StoreWritten *ret) {
        StoreWritten written = {};

        if (write->n_intents == 0)
                return store_write(store, write, ret);
        int r = intents_check_room(intents);
        if (r < 0)
                return r;
        intents->n_reserved += write->n_intents;
        r = store_write(store, write, &written);
        intents->n_reserved -= write->n_intents;
        /* An outcome that was unknown at first, and found out, tells no number. */
        if (r == -EINPROGRESS || (r >= 0 && written.last_intent == 0))
                intents_look(intents, write->partition);
        if (r < 0)
                return r;
        if (written.last_intent > 0)
                intents_stored(intents, write->partition, written.last_intent, write->n_intents);
        if (ret)
                *ret = written;
        return 0;
}

int intents_deliver(Intents *intents, const char *name, uint64_t number, uint64_t usec) {
        Source *source = source_find(intents, name);
        uint64_t now = boottime_usec(), end = usec > UINT64_MAX - now ? UINT64_MAX : now + usec;
        int r = 0;

        if (!source)
                return intents->stopping ? -ETIME : 0;
        source->n_waiters++;
        while (r == 0 && source->settled < number) {
                now = boottime_usec();
                r = intents->stopping || now >= end ? -ETIME : fiber_queue_wait(&source->waiters, end - now);
        }
        if (--source->n_waiters == 0 && !intents->stopping)
                source_forget_if_done(source);
        return r;
}

/* --- upkeep --- */

/* Deletes it, and stores the same anew: one write of one partition. */
static int retry_one(Intents *intents, const Sc__Intent *intent, void *userdata) {
        const MethodInfo *method = schema_find_method(intent->method);
        const unsigned parked = store_field(&sc__intent__info, "parked");
        unsigned *n = userdata;
        ProtobufCMessage *request;
        StoreWritten written;

        if (!intent->parked || !method)
                return 0;
        _cleanup_arena_ Arena arena;
        arena_init(&arena, ARENA_MAX);
        int r = arena_unpack(
                &arena, method->request->descriptor, intent->request.data, intent->request.len, &request);
        if (r < 0)
                return r == -EBADMSG ? 0 : r;
        const Trace trace = intent_trace(intent);
        const StoreIntent again = {.target = intent->target,
                .method = method,
                .request = request,
                .trace = intent->trace_id.len > 0 ? &trace : NULL};
        const StoreWrite write = {.partition = intent->source,
                .guard = {.verb = STORE_DELETE,
                        .info = &sc__intent__info,
                        .record = &intent->base,
                        .equal = &parked,
                        .n_equal = 1},
                .intents = &again,
                .n_intents = 1};
        r = intents_write(intents, intents->store, &write, &written);
        if (r == -ENOENT || r == -ESTALE)
                return 0; /* somebody else did it */
        if (r < 0)
                return r;
        intents->n_parked -= MIN(intents->n_parked, 1U);
        (*n)++;
        return 0;
}

int intents_retry_parked(Intents *intents, unsigned *ret) {
        *ret = 0;
        for (unsigned shard = 0; shard < SHARDS_DEFAULT; shard++) {
                int r = visit_shard(intents, shard, retry_one, ret);
                if (r < 0)
                        return r;
        }
        return 0;
}

size_t intents_statistics(const Intents *intents, BusStatistic *ret, size_t max) {
        const BusStatistic statistics[] = {
                {"intents_pending", intents->n_pending},
                {"intents_parked", intents->n_parked},
                {"intents_delivered", intents->n_delivered},
                {"intents_retried", intents->n_retried},
        };
        size_t n = MIN(max, ELEMENTSOF(statistics));

        memcpy(ret, statistics, n * sizeof(BusStatistic));
        return n;
}

/* --- at the target --- */

int intent_is_repeat(Call *call, Store *store) {
        Sc__Received key = SC__RECEIVED__INIT;
        Sc__Received *received;

        if (!call->intent.source)
                return 0;
        key.target = (char *) call->intent.target;
        key.source = (char *) call->intent.source;
        int r = store_get(store, &call->arena, &sc__received__info, &key.base, &received);
        if (r <= 0)
                return r;
        return received->number >= call->intent.number;
}

StoreItem intent_follower(const Call *call, Sc__Received *received) {
        *received = (Sc__Received) SC__RECEIVED__INIT;
        received->target = (char *) call->intent.target;
        received->source = (char *) call->intent.source;
        received->number = call->intent.number;
        return (StoreItem){.verb = STORE_PUT, .info = &sc__received__info, .record = &received->base};
}

void intent_make_id(const Call *call, char out[static UUID_TEXT_SIZE]) {
        char name[256];

        snprintf(name, sizeof(name), "%s %" PRIu64, call->intent.source, call->intent.number);
        uuid_from_name("intent", name, out);
}
