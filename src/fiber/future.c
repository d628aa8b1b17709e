/* SPDX-License-Identifier: Apache-2.0 */
#include <utlist.h>

#include "fiber/fiber.h"
#include "fiber/suspend.h"

void future_init(Future *future, void (*destroy)(Future *future)) {
        *future = (Future){.n_refs = 1, .destroy = destroy};
}

Future *future_ref(Future *future) {
        future->n_refs++;
        return future;
}

Future *future_unref(Future *future) {
        if (!future)
                return NULL;
        assert_se(future->n_refs > 0);
        if (--future->n_refs > 0)
                return NULL;
        assert_se(!future->waiter);
        if (future->destroy)
                future->destroy(future);
        else
                free(future);
        return NULL;
}

void future_fulfil(Future *future) {
        Fiber *waiter = TAKE_PTR(future->waiter);

        assert_se(!future->fulfilled);
        future->fulfilled = true;
        future_unref(future); /* if somebody waits, he has a reference */
        if (waiter)
                fiber_wake(waiter);
}

int future_await(Future *future) {
        int r = fiber_check_cancelled();
        if (r < 0)
                return r;
        if (future->fulfilled)
                return 0;
        assert_se(!future->waiter);
        future->waiter = fiber_current();
        fiber_suspend(UINT64_MAX, false);
        if (future->fulfilled)
                return 0;
        future->waiter = NULL;
        return fiber_check_cancelled();
}

void future_await_fully(Future *future) {
        if (future->fulfilled)
                return;
        assert_se(!future->waiter);
        future->waiter = fiber_current();
        fiber_suspend(UINT64_MAX, true);
        assert_se(future->fulfilled);
}

/* On the stack of the fiber that waits. */
struct FiberWaiter {
        Fiber *fiber;
        bool woken; /* and out of the list: the queue may be gone */
        FiberWaiter *prev, *next;
};

int fiber_queue_wait(FiberQueue *queue, uint64_t usec) {
        FiberWaiter waiter = {.fiber = fiber_current()};

        int r = fiber_check_cancelled();
        if (r < 0)
                return r;
        DL_APPEND(queue->first, &waiter);
        bool timed_out = fiber_suspend(usec, false);
        if (waiter.woken)
                return 0;
        DL_DELETE(queue->first, &waiter);
        return timed_out ? -ETIME : fiber_check_cancelled();
}

void fiber_queue_wake(FiberQueue *queue) {
        fiber_hold_resumptions();
        while (queue->first) {
                FiberWaiter *waiter = queue->first;
                DL_DELETE(queue->first, waiter);
                waiter->woken = true;
                fiber_wake(waiter->fiber);
        }
        fiber_release_resumptions();
}
