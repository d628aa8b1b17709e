/* SPDX-License-Identifier: Apache-2.0 */

/* The deliverer as a whole: its workers, and what sources call. */

#include <inttypes.h>

#include "log/log.h"
#include "service/intents-internal.h"
#include "util/time-util.h"

#define RETRY_MIN_USEC (50 * USEC_PER_MSEC)
#define RETRY_MAX_USEC (5 * USEC_PER_SEC)

uint64_t intents_retry_delay(const Intents *intents, unsigned n_failures) {
        uint64_t usec = MIN(intents->retry_min_usec << MIN(n_failures, 16U), intents->retry_max_usec);
        uint32_t random;

        unique_bytes(&random, sizeof(random));
        return usec - (usec * (random % 256)) / 512; /* between half of it and all */
}

/* --- workers --- */

void intents_start_workers(Intents *intents, uint64_t usec) {
        if (intents->stopping)
                return;
        (void) sd_event_source_set_time_relative(intents->starter, usec);
        (void) sd_event_source_set_enabled(intents->starter, SD_EVENT_ONESHOT);
}

void intents_find_again(Intents *intents) {
        intents->found = false;
        intents->missed = true;
        intents_start_workers(intents, intents->retry_max_usec);
}

static void worker_end(int r, void *userdata) {
        Worker *worker = userdata;

        worker->running = false;
        worker->fiber = NULL;
        worker->intents->n_workers--;
        /* It was cancelled before it had a stack, or there is more to find. */
        if (r < 0 || !worker->intents->found)
                intents_start_workers(worker->intents, 0);
}

static void deliver_ready(void *userdata) {
        Worker *worker = userdata;
        Intents *intents = worker->intents;
        Source *source;

        worker->fiber = fiber_current();
        while (!intents->stopping && intents->found && (source = TAILQ_FIRST(&intents->ready))) {
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
        /* Callers who wait for a delivery may have all the other stacks. These are few, so that two roles that
         * deliver to each other cannot use up what each other's handlers need. */
        const FiberStart start = {.main = main,
                .cancelled = worker_end,
                .userdata = worker,
                .key = "intents",
                .internal = true};
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
                if (++n == INTENTS_MAX_WORKERS)
                        break;
        return n;
}

static int on_second_search(sd_event_source *event_source, uint64_t usec, void *userdata) {
        Intents *intents = userdata;

        intents->found = false;
        intents_start_workers(intents, 0);
        return 0;
}

/* What a former process had submitted when it died may land after the first search, and nobody tells of it. */
static void plan_second_search(Intents *intents) {
        if (intents->second_search)
                return;
        int r = sd_event_add_time_relative(intents->event, &intents->second_search, CLOCK_BOOTTIME,
                INTENTS_LOOKS * intents->retry_max_usec, 0, on_second_search, intents);
        if (r < 0)
                log_error_errno(r, "Failed to set a timer: %m");
}

static void find_all(void *userdata) {
        Worker *worker = userdata;
        Intents *intents = worker->intents;

        worker->fiber = fiber_current();
        intents->missed = false;
        if (intents_find_all(intents) >= 0) {
                intents->found = !intents->missed;
                if (intents->n_pending > 0 && !intents->second_search)
                        log_info("Found intents to be delivered: %" PRIu64 ".", intents->n_pending);
                plan_second_search(intents);
                intents_start_workers(intents, 0);
        }
        worker_end(0, worker);
}

static int on_start(sd_event_source *event_source, uint64_t usec, void *userdata) {
        Intents *intents = userdata;
        unsigned n = intents->found ? count_ready(intents) : intents->n_workers == 0;

        for (; n > 0 && intents->n_workers < INTENTS_MAX_WORKERS; n--)
                if (worker_start(intents, intents->found ? deliver_ready : find_all) < 0) {
                        intents_start_workers(intents, intents->retry_min_usec);
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
        intents->second_search = sd_event_source_disable_unref(intents->second_search);
        for (Source *source = intents->sources; source; source = source->hh.next) {
                source->timer = sd_event_source_disable_unref(source->timer);
                fiber_queue_wake(&source->waiters);
        }
        FOREACH_ARRAY(worker, intents->workers, INTENTS_MAX_WORKERS)
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
        sd_event_source_disable_unref(intents->second_search);
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
        if (intents->stopping)
                return;
        Source *source = source_get(intents, name);
        if (!source) {
                log_oom();
                return intents_find_again(intents);
        }
        if (last > source->counted) {
                source_set_pending(source, source->pending + MIN(n, last - source->counted));
                source->counted = last;
        }
        source_wake(source);
}

void intents_rescan(Intents *intents, const char *name) {
        Source *source = source_get(intents, name);

        if (!source) {
                log_oom();
                return intents_find_again(intents);
        }
        source->n_looks = INTENTS_LOOKS;
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
                intents_rescan(intents, write->partition);
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
                return intents->stopping || !intents->found ? -ETIME : 0;
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
