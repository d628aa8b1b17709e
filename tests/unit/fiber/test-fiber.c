/* SPDX-License-Identifier: Apache-2.0 */

/* Fibers wait and go on, are cancelled in every kind of wait, and unwind. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fiber/fiber.h"
#include "log/log.h"
#include "util/time-util.h"

typedef struct Fixture {
        sd_event *event;
        FiberPool *pool;
        char steps[256]; /* what happened, a letter each */
} Fixture;

static const FiberPoolConfig config = {
        .max_fibers = 64, .n_internal = 4, .max_queued = 100, .max_queued_per_key = 10};

static int setup(void **state) {
        Fixture *f = new0(Fixture, 1);

        assert_non_null(f);
        assert_int_equal(sd_event_new(&f->event), 0);
        assert_int_equal(fiber_pool_new(&f->pool, f->event, &config), 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        f->pool = fiber_pool_free(f->pool);
        sd_event_unref(f->event);
        free(f);
        return 0;
}

static void step(Fixture *f, char letter) {
        f->steps[strlen(f->steps)] = letter;
}

static void start(Fixture *f, void (*main)(void *userdata), void *userdata, Fiber **ret) {
        assert_int_equal(fiber_start(f->pool, &(FiberStart){.main = main, .userdata = userdata}, ret), 0);
}

static void run_until_idle(Fixture *f) {
        FiberPoolStatistics statistics;

        for (;;) {
                fiber_pool_get_statistics(f->pool, &statistics);
                if (statistics.n_running + statistics.n_queued == 0)
                        return;
                assert_true(sd_event_run(f->event, 5 * USEC_PER_SEC) > 0);
        }
}

/* --- one fiber waits for a future --- */

typedef struct Reply {
        Future future;
        int value;
} Reply;

static Reply *reply_new(void) {
        Reply *reply = new0(Reply, 1);

        assert_non_null(reply);
        future_init(&reply->future, NULL);
        return reply;
}

static void reply_unref(Reply *reply) {
        future_unref(&reply->future);
}
DEFINE_CLEANUP(Reply *, reply_unref);

typedef struct Waiting {
        Fixture *f;
        Reply *reply; /* the callback's reference */
        bool fully, once_more, sleep_after;
        int r, r_after;
        int value;
        int *n_freed;
} Waiting;

static void count_free(int **n_freed) {
        if (*n_freed)
                (**n_freed)++;
}

static void wait_for_reply(void *userdata) {
        Waiting *w = userdata;
        _cleanup_(reply_unrefp) Reply *reply = reply_new();
        _cleanup_(count_free) _unused_ int *n_freed = w->n_freed;

        w->reply = (Reply *) future_ref(&reply->future);
        step(w->f, '(');
        if (w->fully)
                future_await_fully(&reply->future);
        else
                w->r = future_await(&reply->future);
        step(w->f, ')');
        w->value = reply->value;
        if (w->sleep_after)
                w->r_after = fiber_sleep(0);
}

static void test_await(void **state) {
        Fixture *f = *state;
        int n_freed = 0;
        Waiting w = {.f = f, .r = 1, .n_freed = &n_freed};

        assert_null(fiber_current());
        start(f, wait_for_reply, &w, NULL);
        step(f, '1');
        w.reply->value = 7;
        future_fulfil(&w.reply->future);
        step(f, '2');
        assert_string_equal(f->steps, "(1)2"); /* at once, both times */
        assert_int_equal(w.r, 0);
        assert_int_equal(w.value, 7);
        assert_int_equal(n_freed, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_await, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
