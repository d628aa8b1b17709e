/* SPDX-License-Identifier: Apache-2.0 */

/* The fibers of all pools of a thread share one scheduler. The loop's own code is at level 0: whatever is
 * started or woken there runs before the call returns. A fiber that starts another one runs it on top, until
 * it suspends or ends; what a fiber wakes goes on when the thread is back at level 0. So a fiber that has
 * been resumed was resumed by the loop, and nothing else runs before it suspends, except what it starts.
 *
 * A fiber is in the list of those that are ready when it was woken, when a stack was found for it, and when
 * it was cancelled while it waited for a stack. */

#include "fiber/fiber.h"

#include "fiber/stack.h"
#include "fiber/start-queue.h"
#include "fiber/suspend.h"
#include "log/log.h"
#include "util/time-util.h"

#define TIMER_ACCURACY_USEC USEC_PER_MSEC
#define TRIM_INTERVAL_USEC USEC_PER_SEC

typedef enum FiberState {
        FIBER_QUEUED, /* waits for a stack */
        FIBER_STARTING, /* has the right to one, is ready */
        FIBER_RUNNING, /* or has started another one, on top of it */
        FIBER_SUSPENDED,
        FIBER_ENDED,
} FiberState;

/* In the list of its pool while it is set. */
typedef struct Timer {
        TAILQ_ENTRY(Timer) link;
        uint64_t usec; /* 0: not set */
        Fiber *fiber; /* NULL: the pool's own, to trim the stacks */
} Timer;

struct Fiber {
        FiberPool *pool;
        LIST_ENTRY(Fiber) link; /* in the pool */
        FiberState state;
        void (*main)(void *userdata);
        void (*cancelled)(int r, void *userdata);
        bool (*may_start)(void *userdata);
        void *userdata;
        bool internal;
        bool has_trace;
        Trace trace;
        StartItem start; /* while it is queued, and while it runs if that is counted */
        TAILQ_ENTRY(Fiber) ready_link;
        bool ready;
        int cancellation; /* 0, or what it was cancelled with */
        bool fully; /* it is suspended, and a cancellation does not wake it */
        bool timed_out;
        Timer deadline, wait_end;
        Stack *stack;
        Context *back; /* who resumed or started it */
        Fiber *back_fiber; /* the same; NULL: the loop */
};

struct FiberPool {
        sd_event *event;
        FiberPoolConfig config;
        LIST_HEAD(, Fiber) fibers;
        StackPool stacks;
        StartQueue queue, internal_queue;
        unsigned n_running, n_running_internal; /* that have a stack, or the right to one */
        uint64_t n_started, n_refused, n_cancelled;
        TAILQ_HEAD(TimerList, Timer) timers; /* earliest first */
        Timer trim;
        sd_event_source *timer_source;
        uint64_t armed_usec; /* what it is set to; USEC_INFINITY: off */
};

typedef struct Scheduler {
        Fiber *current; /* NULL: the loop's own code runs */
        Context loop;
        TAILQ_HEAD(, Fiber) ready;
        unsigned n_holds; /* nothing is resumed from level 0 */
} Scheduler;

static _Thread_local Scheduler scheduler;

/* --- timers: one source a pool --- */

static void arm_timer_source(FiberPool *pool) {
        Timer *first = TAILQ_FIRST(&pool->timers);

        /* Most timers are taken back before their time. Waking up once too early is cheaper than setting the
         * source anew for each of them. */
        if (!first || first->usec >= pool->armed_usec)
                return;
        pool->armed_usec = first->usec;
        sd_event_source_set_time(pool->timer_source, first->usec);
        sd_event_source_set_enabled(pool->timer_source, SD_EVENT_ONESHOT);
}

/* Deadlines are mostly alike, so the place is at or near the end. */
static void timer_set(FiberPool *pool, Timer *timer, uint64_t usec) {
        Timer *before = TAILQ_LAST(&pool->timers, TimerList);

        timer->usec = MAX(usec, UINT64_C(1));
        while (before && before->usec > usec)
                before = TAILQ_PREV(before, TimerList, link);
        if (before)
                TAILQ_INSERT_AFTER(&pool->timers, before, timer, link);
        else
                TAILQ_INSERT_HEAD(&pool->timers, timer, link);
        arm_timer_source(pool);
}

static void timer_unset(FiberPool *pool, Timer *timer) {
        if (timer->usec == 0)
                return;
        TAILQ_REMOVE(&pool->timers, timer, link);
        timer->usec = 0;
}

static void trim_stacks(FiberPool *pool) {
        stack_pool_trim(&pool->stacks);
        if (stack_pool_has_surplus(&pool->stacks))
                timer_set(pool, &pool->trim, boottime_usec() + TRIM_INTERVAL_USEC);
}

static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        FiberPool *pool = userdata;
        uint64_t now = boottime_usec();
        Timer *timer;

        pool->armed_usec = USEC_INFINITY;
        fiber_hold_resumptions();
        while ((timer = TAILQ_FIRST(&pool->timers)) && timer->usec <= now) {
                Fiber *fiber = timer->fiber;

                timer_unset(pool, timer);
                if (!fiber)
                        trim_stacks(pool);
                else if (timer == &fiber->deadline)
                        fiber_cancel(fiber, -ETIMEDOUT);
                else {
                        fiber->timed_out = true;
                        fiber_wake(fiber);
                }
        }
        arm_timer_source(pool);
        fiber_release_resumptions();
        return 0;
}

/* --- switches --- */

static void set_ready(Fiber *fiber) {
        if (fiber->ready)
                return;
        if (!scheduler.ready.tqh_last)
                TAILQ_INIT(&scheduler.ready);
        fiber->ready = true;
        TAILQ_INSERT_TAIL(&scheduler.ready, fiber, ready_link);
}

static void admit_queued(FiberPool *pool);

static Fiber *fiber_free(Fiber *fiber) {
        FiberPool *pool = fiber->pool;

        timer_unset(pool, &fiber->deadline);
        LIST_REMOVE(fiber, link);
        return mfree(fiber);
}

static StartQueue *queue_of(Fiber *fiber) {
        return fiber->internal ? &fiber->pool->internal_queue : &fiber->pool->queue;
}

static void release_stack(Fiber *fiber) {
        FiberPool *pool = fiber->pool;

        if (fiber->stack)
                stack_pool_put(&pool->stacks, TAKE_PTR(fiber->stack));
        if (stack_pool_has_surplus(&pool->stacks) && pool->trim.usec == 0)
                timer_set(pool, &pool->trim, boottime_usec() + TRIM_INTERVAL_USEC);
        if (fiber->start.key)
                start_queue_end(queue_of(fiber), &fiber->start);
        pool->n_running--;
        if (fiber->internal)
                pool->n_running_internal--;
}

/* Runs the fiber until it suspends or ends. */
static void switch_to(Fiber *fiber) {
        Fiber *before = scheduler.current;
        Context *here = before ? &before->stack->context : &scheduler.loop;
        int saved_errno = errno;

        fiber->back = here;
        fiber->back_fiber = before;
        fiber->state = FIBER_RUNNING;
        scheduler.current = fiber;
        const Trace *trace = log_set_trace(fiber->has_trace ? &fiber->trace : NULL);
        context_switch(here, &fiber->stack->context);
        log_set_trace(trace);
        errno = saved_errno;
        if (fiber->state != FIBER_ENDED)
                return;
        FiberPool *pool = fiber->pool;
        release_stack(fiber);
        fiber_free(fiber);
        admit_queued(pool);
}

/* What runs on a stack for as long as it is mapped: one fiber after the other. There is nothing here that
 * would have to survive context_park(). */
static void stack_main(void *userdata) {
        Stack *stack = userdata;

        for (;;) {
                Fiber *fiber = stack->user;

                fiber->main(fiber->userdata);
                fiber->state = FIBER_ENDED;
                scheduler.current = fiber->back_fiber;
                context_park(&stack->context, fiber->back);
        }
}

bool fiber_suspend(uint64_t usec, bool fully) {
        Fiber *fiber = scheduler.current;
        int saved_errno = errno;

        assert_se(fiber && (fully || fiber->cancellation == 0));
        fiber->fully = fully;
        fiber->timed_out = false;
        if (usec != UINT64_MAX) {
                uint64_t now = boottime_usec();
                timer_set(fiber->pool, &fiber->wait_end, usec < UINT64_MAX - now ? now + usec : UINT64_MAX);
        }
        fiber->state = FIBER_SUSPENDED;
        scheduler.current = fiber->back_fiber;
        context_switch(&fiber->stack->context, fiber->back);
        timer_unset(fiber->pool, &fiber->wait_end);
        errno = saved_errno;
        return fiber->timed_out;
}

/* --- starts --- */

static bool may_start(const FiberPool *pool, bool internal) {
        unsigned n_others = pool->n_running - pool->n_running_internal;

        return pool->n_running < pool->config.max_fibers &&
               (internal || n_others < pool->config.max_fibers - pool->config.n_internal);
}

static void reserve_stack(Fiber *fiber) {
        fiber->state = FIBER_STARTING;
        fiber->pool->n_running++;
        if (fiber->internal)
                fiber->pool->n_running_internal++;
}

static bool item_may_start(const StartItem *item) {
        const Fiber *fiber = CONTAINER_OF(item, Fiber, start);

        return !fiber->may_start || fiber->may_start(fiber->userdata);
}

/* Stacks became free: those whose turn it is become ready. */
static void admit_queued(FiberPool *pool) {
        for (;;) {
                StartItem *item = NULL;

                if (may_start(pool, true))
                        item = start_queue_take(&pool->internal_queue, item_may_start);
                if (!item && may_start(pool, false))
                        item = start_queue_take(&pool->queue, item_may_start);
                if (!item)
                        return;
                Fiber *fiber = CONTAINER_OF(item, Fiber, start);
                reserve_stack(fiber);
                set_ready(fiber);
        }
}

/* It never ran. */
static void end_unstarted(Fiber *fiber, int r) {
        void (*cancelled)(int r, void *userdata) = fiber->cancelled;
        FiberPool *pool = fiber->pool;
        void *userdata = fiber->userdata;

        if (fiber->state == FIBER_STARTING)
                release_stack(fiber);
        fiber_free(fiber);
        admit_queued(pool);
        if (cancelled)
                cancelled(r, userdata);
}

static int begin(Fiber *fiber) {
        fiber->stack = stack_pool_get(&fiber->pool->stacks);
        if (!fiber->stack)
                return -ENOMEM;
        fiber->stack->user = fiber;
        switch_to(fiber);
        return 0;
}

static void put_back(Fiber *fiber) {
        fiber->state = FIBER_QUEUED;
        fiber->pool->n_running--;
        if (fiber->internal)
                fiber->pool->n_running_internal--;
        start_queue_put_back(queue_of(fiber), &fiber->start);
}

static void run_ready_one(Fiber *fiber) {
        if (fiber->state == FIBER_SUSPENDED) {
                switch_to(fiber);
                return;
        }
        int r = fiber->cancellation;
        /* What has begun since it was its turn may have changed that. */
        if (r == 0 && fiber->may_start && !fiber->may_start(fiber->userdata)) {
                put_back(fiber);
                return;
        }
        if (r == 0)
                r = begin(fiber);
        if (r < 0)
                end_unstarted(fiber, r);
}

void fiber_hold_resumptions(void) {
        scheduler.n_holds++;
}

void fiber_release_resumptions(void) {
        Fiber *fiber;

        assert_se(scheduler.n_holds > 0);
        if (scheduler.n_holds > 1 || scheduler.current) {
                scheduler.n_holds--;
                return;
        }
        /* Held all the while, so that what a callback of the loop wakes in here is resumed by this loop and
         * not by one more on top of it. */
        while ((fiber = TAILQ_FIRST(&scheduler.ready))) {
                TAILQ_REMOVE(&scheduler.ready, fiber, ready_link);
                fiber->ready = false;
                run_ready_one(fiber);
        }
        scheduler.n_holds--;
}

static void resume_ready(void) {
        if (scheduler.current || scheduler.n_holds > 0)
                return;
        fiber_hold_resumptions();
        fiber_release_resumptions();
}

static int enqueue(Fiber *fiber, const char *key) {
        FiberPool *pool = fiber->pool;

        if (pool->queue.n + pool->internal_queue.n >= pool->config.max_queued)
                return -EBUSY;
        return start_queue_add(queue_of(fiber), key ?: "", pool->config.max_queued_per_key, &fiber->start);
}

static Fiber *fiber_new(FiberPool *pool, const FiberStart *start) {
        Fiber *fiber = new0(Fiber, 1);
        if (!fiber)
                return NULL;
        fiber->pool = pool;
        fiber->main = start->main;
        fiber->cancelled = start->cancelled;
        fiber->may_start = start->may_start;
        fiber->userdata = start->userdata;
        fiber->internal = start->internal;
        fiber->deadline.fiber = fiber->wait_end.fiber = fiber;
        if (start->trace) {
                fiber->has_trace = true;
                fiber->trace = *start->trace;
        }
        LIST_INSERT_HEAD(&pool->fibers, fiber, link);
        return fiber;
}

int fiber_start(FiberPool *pool, const FiberStart *start, Fiber **ret) {
        Fiber *fiber = fiber_new(pool, start);
        int r = fiber ? 0 : -ENOMEM;

        /* Where the keys are counted all of them come by the queue. */
        bool queued = pool->config.max_running_per_key > 0;
        if (r >= 0 && !queued && may_start(pool, fiber->internal))
                reserve_stack(fiber);
        else if (r >= 0)
                r = enqueue(fiber, start->key);
        if (r >= 0 && fiber->state == FIBER_STARTING) {
                fiber->stack = stack_pool_get(&pool->stacks);
                if (!fiber->stack) {
                        release_stack(fiber);
                        r = -ENOMEM;
                }
        }
        if (r < 0) {
                if (fiber)
                        fiber_free(fiber);
                pool->n_refused++;
                return r;
        }
        pool->n_started++;
        if (start->deadline_usec > 0)
                timer_set(pool, &fiber->deadline, start->deadline_usec);
        if (ret)
                *ret = fiber; /* now: it may have ended when switch_to() returns */
        if (fiber->state == FIBER_STARTING) {
                fiber->stack->user = fiber;
                fiber_hold_resumptions();
                switch_to(fiber);
                fiber_release_resumptions();
        } else if (queued)
                fiber_pool_admit(pool);
        return 0;
}

/* --- cancellation, waits --- */

void fiber_cancel(Fiber *fiber, int r) {
        assert_se(r < 0);
        if (fiber->cancellation < 0)
                return;
        fiber->cancellation = r;
        fiber->pool->n_cancelled++;
        timer_unset(fiber->pool, &fiber->deadline);
        if (fiber->state == FIBER_QUEUED) {
                start_queue_remove(queue_of(fiber), &fiber->start);
                set_ready(fiber);
        } else if (fiber->state == FIBER_SUSPENDED && !fiber->fully)
                set_ready(fiber);
        resume_ready();
}

void fiber_wake(Fiber *fiber) {
        assert_se(fiber->state == FIBER_SUSPENDED);
        set_ready(fiber);
        resume_ready();
}

Fiber *fiber_current(void) {
        return scheduler.current;
}

int fiber_check_cancelled(void) {
        assert_se(scheduler.current);
        return scheduler.current->cancellation;
}

int fiber_sleep(uint64_t usec) {
        int r = fiber_check_cancelled();
        if (r < 0)
                return r;
        return fiber_suspend(usec, false) ? 0 : fiber_check_cancelled();
}

/* --- the pool --- */

int fiber_pool_new(FiberPool **ret, sd_event *event, const FiberPoolConfig *config) {
        assert_se(config->n_internal < config->max_fibers);
        _cleanup_(fiber_pool_freep) FiberPool *pool = new0(FiberPool, 1);
        if (!pool)
                return -ENOMEM;
        pool->config = *config;
        pool->armed_usec = USEC_INFINITY;
        LIST_INIT(&pool->fibers);
        TAILQ_INIT(&pool->timers);
        stack_pool_init(&pool->stacks, stack_main);
        start_queue_init(&pool->queue, config->max_running_per_key);
        start_queue_init(&pool->internal_queue, config->max_running_per_key);
        int r = sd_event_add_time(
                event, &pool->timer_source, CLOCK_BOOTTIME, UINT64_MAX, TIMER_ACCURACY_USEC, on_timer, pool);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(pool->timer_source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(pool->timer_source, "fibers");
        *ret = TAKE_PTR(pool);
        return 0;
}

void fiber_pool_admit(FiberPool *pool) {
        admit_queued(pool);
        resume_ready();
}

void fiber_pool_cancel_all(FiberPool *pool) {
        Fiber *fiber;

        fiber_hold_resumptions();
        LIST_FOREACH(fiber, &pool->fibers, link)
                fiber_cancel(fiber, -ECANCELED);
        fiber_release_resumptions();
}

FiberPool *fiber_pool_free(FiberPool *pool) {
        if (!pool)
                return NULL;
        assert_se(LIST_EMPTY(&pool->fibers));
        sd_event_source_disable_unref(pool->timer_source);
        stack_pool_done(&pool->stacks);
        return mfree(pool);
}

void fiber_pool_get_statistics(const FiberPool *pool, FiberPoolStatistics *ret) {
        *ret = (FiberPoolStatistics){
                .n_running = pool->n_running,
                .n_queued = pool->queue.n + pool->internal_queue.n,
                .n_stacks = pool->stacks.n_mapped,
                .n_started = pool->n_started,
                .n_refused = pool->n_refused,
                .n_cancelled = pool->n_cancelled,
        };
}
