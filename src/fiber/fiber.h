/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Fibers: functions with a stack of their own, which wait by giving the thread back to the event loop. A
 * handler runs on one, so it reads from top to bottom: the store, other roles, threads and timers are called
 * like functions, and _cleanup_ and early returns work as everywhere.
 *
 * All fibers of a pool run on the thread of its event loop, one at a time, and switch only where they call
 * something that waits. Whatever calls fiber_sleep() or future_await(), directly or through other functions,
 * "may suspend": other code runs meanwhile, and state that is not the fiber's own may have changed when it
 * returns. docs/architecture.md lists which code may suspend.
 *
 * Cancellation is an error like any other: a wait in a fiber that was cancelled returns the error it was
 * cancelled with (-ECANCELED, or -ETIMEDOUT for a deadline), at once and in every wait that follows, and the
 * functions return one after the other. What must not be interrupted, a write that was submitted, waits with
 * future_await_fully(): then the cancellation takes effect at the wait after it.
 *
 * Stacks have a guard page below, so an overflow ends the process at once. They are pooled; a switch is a
 * _setjmp() and a _longjmp(), without a system call (after systemd's sd-future, fiber.c). AddressSanitizer
 * and valgrind are told of each switch.
 *
 * Where fibers come from: fiber_start() runs the function at once on a stack of the pool, until it first
 * suspends. Where no stack is free the start waits in a queue of its key (a user), and the queues take
 * turns, so that one user with a thousand requests delays himself. Some stacks are kept for calls of other
 * roles (`internal`), which never wait for another role, so two roles that wait for each other cannot use up
 * each other's stacks; and for a few fibers of the role's own that those with the other stacks may wait for. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "log/trace.h"
#include "util/macro.h"

typedef struct Fiber Fiber;
typedef struct FiberPool FiberPool;

typedef struct FiberPoolConfig {
        unsigned max_fibers; /* stacks, at most */
        unsigned n_internal; /* of these, so many for internal starts alone */
        unsigned max_queued; /* starts that wait for a stack, of all keys */
        unsigned max_queued_per_key;
        unsigned max_running_per_key; /* 0: as many as there are stacks */
} FiberPoolConfig;

typedef struct FiberPoolStatistics {
        unsigned n_running; /* fibers that have a stack */
        unsigned n_queued; /* starts that wait for one */
        unsigned n_stacks; /* mapped, in use or kept */
        uint64_t n_started, n_refused, n_cancelled;
} FiberPoolStatistics;

int fiber_pool_new(FiberPool **ret, sd_event *event, const FiberPoolConfig *config);
/* Cancels every fiber. They unwind as far as they can at once; those that wait for a write end when it does,
 * so whoever ends a role closes what they wait for and then frees the pool. No fiber may be left then. */
void fiber_pool_cancel_all(FiberPool *pool);
FiberPool *fiber_pool_free(FiberPool *pool);
DEFINE_CLEANUP(FiberPool *, fiber_pool_free);
/* What may_start() said may have changed. */
void fiber_pool_admit(FiberPool *pool);
void fiber_pool_get_statistics(const FiberPool *pool, FiberPoolStatistics *ret);

typedef struct FiberStart {
        void (*main)(void *userdata); /* the fiber ends when it returns */
        /* Instead of main, from the loop: it was cancelled (r says with what) while it waited for a stack.
         */
        void (*cancelled)(int r, void *userdata);
        void *userdata;
        const char *key; /* the queue it waits in, copied; NULL is one, too */
        /* Asked when it is this start's turn to run; false: it waits on, and fiber_pool_admit() asks again.
         * NULL: always. Only in a pool with max_running_per_key. */
        bool (*may_start)(void *userdata);
        bool internal; /* may use the stacks kept for calls of other roles */
        uint64_t deadline_usec; /* on CLOCK_BOOTTIME; 0: none. Then it is cancelled with -ETIMEDOUT */
        const Trace *trace; /* what log_*() of this fiber carries; copied; NULL: none */
} FiberStart;

/* Runs it, or queues it. *ret (may be NULL) is good for fiber_cancel() until main or cancelled returns.
 * -EBUSY: too many wait already; -ENOMEM. */
int fiber_start(FiberPool *pool, const FiberStart *start, Fiber **ret);

/* Ends the waits of the fiber with r (negative), from now on. The first cancellation counts. From any code
 * of the loop's thread; a fiber may cancel itself. */
void fiber_cancel(Fiber *fiber, int r);

/* --- on a fiber --- */

/* NULL: this is the loop, nothing may suspend. */
Fiber *fiber_current(void);
/* 0, or what it was cancelled with: for loops that do not wait. */
int fiber_check_cancelled(void);
/* 0, or what it was cancelled with. */
int fiber_sleep(uint64_t usec);

/* --- what a callback brings and a fiber waits for --- */

/* A future is made by the fiber that waits, and shared with the callback that brings the result: each has a
 * reference, so either may be gone first. Structs that hold a result begin with a Future:
 *
 *      typedef struct Reply { Future future; int r; … } Reply;
 *
 *      _cleanup_(reply_unrefp) Reply *reply = …;              // one reference is ours
 *      r = start_something(…, on_reply, future_ref(&reply->future));
 *      if (r < 0) { future_unref(&reply->future); return r; }  // the callback will not come
 *      r = future_await(&reply->future);
 *
 *      static void on_reply(…, void *userdata) {
 *              Reply *reply = userdata;
 *              reply->r = …;
 *              future_fulfil(&reply->future);                  // gives the callback's reference back
 *      }
 *
 * One fiber at most waits for a future. */
typedef struct Future Future;
struct Future {
        unsigned n_refs;
        bool fulfilled;
        Fiber *waiter;
        void (*destroy)(Future *future); /* frees the struct, with the last reference; NULL: free() */
};

/* One reference. The rest of the struct is the caller's. */
void future_init(Future *future, void (*destroy)(Future *future));
Future *future_ref(Future *future);
Future *future_unref(Future *future);
/* The result is there. Gives one reference back. The fiber that waits goes on: within this call when the
 * loop calls it, and after the current fiber suspends or ends when a fiber does. */
void future_fulfil(Future *future);
/* 0, or what the fiber was cancelled with; then the result comes to nobody. */
int future_await(Future *future);
/* Waits for the result whatever happens; a cancellation is noted for the next wait. */
void future_await_fully(Future *future);

/* Fibers that wait for something to become true, all of which go on at once: to look again. */
typedef struct FiberWaiter FiberWaiter;
typedef struct FiberQueue {
        FiberWaiter *first;
} FiberQueue;
/* 0: woken; or what the fiber was cancelled with; -ETIME after `usec` (UINT64_MAX: never). */
int fiber_queue_wait(FiberQueue *queue, uint64_t usec);
void fiber_queue_wake(FiberQueue *queue);
