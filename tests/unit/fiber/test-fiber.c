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
        bool fully, sleep_after;
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

static void test_await_what_is_there(void **state) {
        Reply *reply = reply_new();

        future_ref(&reply->future);
        future_fulfil(&reply->future);
        assert_true(reply->future.fulfilled);
        future_await_fully(&reply->future); /* does not suspend, so even the loop may */
        reply_unref(reply);
}

/* The callback comes when the fiber has gone; the callback never comes. */
static void test_either_is_gone_first(void **state) {
        Fixture *f = *state;
        int n_freed = 0;
        Waiting w = {.f = f, .n_freed = &n_freed};
        Fiber *fiber;

        start(f, wait_for_reply, &w, &fiber);
        fiber_cancel(fiber, -ECANCELED);
        assert_int_equal(n_freed, 1);
        assert_int_equal(w.r, -ECANCELED);
        w.reply->value = 3;
        future_fulfil(&w.reply->future);

        start(f, wait_for_reply, &w, &fiber);
        future_unref(&w.reply->future);
        fiber_cancel(fiber, -ECANCELED);
        assert_int_equal(n_freed, 2);
}

static void test_cancel_await(void **state) {
        Fixture *f = *state;
        int n_freed = 0;
        Waiting w = {.f = f, .r = 1, .n_freed = &n_freed, .sleep_after = true};
        Fiber *fiber;

        start(f, wait_for_reply, &w, &fiber);
        fiber_cancel(fiber, -EOWNERDEAD);
        assert_int_equal(w.r, -EOWNERDEAD);
        assert_int_equal(w.r_after, -EOWNERDEAD); /* every wait that follows, too */
        assert_int_equal(n_freed, 1);
        future_unref(&w.reply->future);
}

static void test_cancel_await_fully(void **state) {
        Fixture *f = *state;
        int n_freed = 0;
        Waiting w = {.f = f, .n_freed = &n_freed, .fully = true, .sleep_after = true};
        Fiber *fiber;

        start(f, wait_for_reply, &w, &fiber);
        fiber_cancel(fiber, -ECANCELED);
        fiber_cancel(fiber, -ETIMEDOUT); /* the first counts */
        assert_int_equal(n_freed, 0);
        w.reply->value = 9;
        future_fulfil(&w.reply->future);
        assert_int_equal(w.value, 9);
        assert_int_equal(w.r_after, -ECANCELED);
        assert_int_equal(n_freed, 1);
}

/* --- sleep and deadlines --- */

typedef struct Sleeper {
        uint64_t usec;
        int r, r_again;
        unsigned n;
} Sleeper;

static void sleep_once(void *userdata) {
        Sleeper *s = userdata;

        s->r = fiber_sleep(s->usec);
        s->r_again = fiber_check_cancelled();
        s->n++;
}

static void test_sleep(void **state) {
        Fixture *f = *state;
        Sleeper s = {.usec = 20 * USEC_PER_MSEC, .r = 1}, none = {.r = 1};
        uint64_t begin = boottime_usec();

        start(f, sleep_once, &s, NULL);
        start(f, sleep_once, &none, NULL);
        assert_int_equal(none.n, 0); /* even no time at all gives the others a turn */
        run_until_idle(f);
        assert_true(boottime_usec() - begin >= 20 * USEC_PER_MSEC);
        assert_int_equal(s.r, 0);
        assert_int_equal(none.r, 0);
}

static void test_cancel_sleep(void **state) {
        Fixture *f = *state;
        Sleeper s = {.usec = UINT64_MAX - 5}; /* whatever the clock says, that is never */
        Fiber *fiber;

        start(f, sleep_once, &s, &fiber);
        fiber_cancel(fiber, -ECANCELED);
        assert_int_equal(s.r, -ECANCELED);
        assert_int_equal(s.n, 1);
}

static void test_deadline(void **state) {
        Fixture *f = *state;
        Sleeper late = {.usec = 60 * USEC_PER_SEC}, in_time = {.usec = 1};
        uint64_t now = boottime_usec();
        const FiberStart starts[] = {
                {.main = sleep_once, .userdata = &late, .deadline_usec = now + 20 * USEC_PER_MSEC},
                {.main = sleep_once, .userdata = &in_time, .deadline_usec = now + 60 * USEC_PER_SEC},
        };

        for (size_t i = 0; i < ELEMENTSOF(starts); i++)
                assert_int_equal(fiber_start(f->pool, &starts[i], NULL), 0);
        run_until_idle(f);
        assert_int_equal(late.r, -ETIMEDOUT);
        assert_int_equal(late.r_again, -ETIMEDOUT);
        assert_int_equal(in_time.r, 0);
        assert_int_equal(in_time.r_again, 0);
        assert_true(boottime_usec() - now >= 20 * USEC_PER_MSEC);

        /* One that is over already: the fiber runs until it waits. */
        late.n = 0;
        assert_int_equal(
                fiber_start(f->pool,
                        &(FiberStart){.main = sleep_once, .userdata = &late, .deadline_usec = 1}, NULL),
                0);
        run_until_idle(f);
        assert_int_equal(late.n, 1);
        assert_int_equal(late.r, -ETIMEDOUT);
}

static void cancel_self(void *userdata) {
        Sleeper *s = userdata;

        fiber_cancel(fiber_current(), -ECANCELED);
        s->n++; /* only waits end */
        s->r_again = fiber_check_cancelled();
        s->r = fiber_sleep(60 * USEC_PER_SEC);
}

static void test_cancel_self(void **state) {
        Sleeper s = {};

        start(*state, cancel_self, &s, NULL);
        assert_int_equal(s.n, 1);
        assert_int_equal(s.r, -ECANCELED);
        assert_int_equal(s.r_again, -ECANCELED);
}

/* --- queues --- */

typedef struct Looker {
        FiberQueue *queue;
        Fixture *f;
        uint64_t usec;
        char name;
        bool again;
        int r;
} Looker;

static void look(void *userdata) {
        Looker *l = userdata;

        do
                l->r = fiber_queue_wait(l->queue, l->usec);
        while (l->again && l->r == 0);
        step(l->f, l->name);
}

static void test_queue(void **state) {
        Fixture *f = *state;
        FiberQueue queue = {};
        Looker a = {&queue, f, UINT64_MAX, 'a'}, b = {&queue, f, UINT64_MAX, 'b', .again = true},
               c = {&queue, f, UINT64_MAX, 'c'}, late = {&queue, f, 10 * USEC_PER_MSEC, 'l'};
        Fiber *fiber;

        fiber_queue_wake(&queue); /* nobody */
        start(f, look, &a, NULL);
        start(f, look, &b, NULL);
        start(f, look, &c, NULL);
        fiber_queue_wake(&queue);
        assert_string_equal(f->steps, "ac"); /* in order; b waits again */
        b.again = false;
        fiber_queue_wake(&queue);
        assert_string_equal(f->steps, "acb");
        assert_null(queue.first);

        start(f, look, &late, NULL);
        start(f, look, &a, &fiber);
        while (late.r == 0)
                assert_true(sd_event_run(f->event, 5 * USEC_PER_SEC) > 0);
        assert_int_equal(late.r, -ETIME);
        fiber_cancel(fiber, -ECANCELED);
        assert_int_equal(a.r, -ECANCELED);
        assert_null(queue.first);
        assert_string_equal(f->steps, "acbla");
}

static void wait_then_sleep(void *userdata) {
        Looker *l = userdata;

        l->r = fiber_queue_wait(l->queue, 10 * USEC_PER_MSEC);
        if (l->r == 0)
                l->r = fiber_sleep(30 * USEC_PER_MSEC);
        if (l->r == 0)
                l->r = fiber_queue_wait(l->queue, UINT64_MAX);
}

/* The end of a wait that was woken in time does not end the next one. */
static void test_time_of_earlier_wait(void **state) {
        Fixture *f = *state;
        FiberQueue queue = {};
        Looker l = {&queue, f, .r = 1};
        uint64_t begin = boottime_usec();

        start(f, wait_then_sleep, &l, NULL);
        fiber_queue_wake(&queue);
        while (!queue.first)
                assert_true(sd_event_run(f->event, 5 * USEC_PER_SEC) > 0);
        assert_true(boottime_usec() - begin >= 30 * USEC_PER_MSEC);
        fiber_queue_wake(&queue);
        assert_int_equal(l.r, 0);
}

/* The first that is woken cancels the second, which was woken, too: that counts. It may free the queue. */
typedef struct Killer {
        FiberQueue *queue;
        Fiber *victim;
} Killer;

static void wait_and_kill(void *userdata) {
        Killer *k = userdata;

        assert_int_equal(fiber_queue_wait(k->queue, UINT64_MAX), 0);
        fiber_cancel(k->victim, -ECANCELED);
        free(k->queue);
}

static void test_queue_is_gone(void **state) {
        Fixture *f = *state;
        Killer k = {.queue = new0(FiberQueue, 1)};
        Looker victim = {k.queue, f, UINT64_MAX, 'v', .r = 1};

        start(f, wait_and_kill, &k, NULL);
        start(f, look, &victim, &k.victim);
        fiber_queue_wake(k.queue);
        assert_int_equal(victim.r, 0);
}

/* --- who runs when --- */

typedef struct Nest {
        Fixture *f;
        unsigned depth;
        Reply *replies[4];
} Nest;

static void nested(void *userdata) {
        Nest *n = userdata;
        unsigned depth = n->depth++;

        step(n->f, (char) ('a' + depth));
        if (depth < 3) {
                start(n->f, nested, n, NULL);
                step(n->f, (char) ('A' + depth));
        }
        _cleanup_(reply_unrefp) Reply *reply = reply_new();
        n->replies[depth] = (Reply *) future_ref(&reply->future);
        assert_int_equal(future_await(&reply->future), 0);
        step(n->f, (char) ('0' + depth));
}

static void test_nested(void **state) {
        Fixture *f = *state;
        Nest n = {.f = f};

        start(f, nested, &n, NULL);
        assert_string_equal(f->steps, "abcdCBA"); /* each until it suspends */
        future_fulfil(&n.replies[1]->future);
        future_fulfil(&n.replies[3]->future);
        future_fulfil(&n.replies[0]->future);
        future_fulfil(&n.replies[2]->future);
        assert_string_equal(f->steps, "abcdCBA1302");
}

typedef struct Fulfiller {
        Fixture *f;
        Reply *reply;
        Fiber *victim;
} Fulfiller;

static void fulfil_and_go_on(void *userdata) {
        Fulfiller *x = userdata;

        step(x->f, '1');
        future_fulfil(&x->reply->future);
        step(x->f, '2');
        if (x->victim)
                fiber_cancel(x->victim, -ECANCELED);
        step(x->f, '3');
        (void) fiber_sleep(0);
        step(x->f, '4');
}

/* What a fiber brings about, goes on when it suspends. */
static void test_woken_by_fiber(void **state) {
        Fixture *f = *state;
        Waiting w = {.f = f};
        Sleeper s = {.usec = 60 * USEC_PER_SEC};
        Fulfiller x = {.f = f};

        start(f, wait_for_reply, &w, NULL);
        start(f, sleep_once, &s, &x.victim);
        x.reply = w.reply;
        start(f, fulfil_and_go_on, &x, NULL);
        assert_string_equal(f->steps, "(123)");
        assert_int_equal(s.r, -ECANCELED);
        run_until_idle(f);
        assert_string_equal(f->steps, "(123)4");
}

/* Two pools of one thread, as in tests of two roles: the same rules. */
static void test_two_pools(void **state) {
        Fixture *f = *state;
        Waiting w = {.f = f};
        Fulfiller x = {.f = f};
        FiberPool *other;

        assert_int_equal(fiber_pool_new(&other, f->event, &config), 0);
        start(f, wait_for_reply, &w, NULL);
        x.reply = w.reply;
        assert_int_equal(
                fiber_start(other, &(FiberStart){.main = fulfil_and_go_on, .userdata = &x}, NULL), 0);
        assert_string_equal(f->steps, "(123)");
        while (strlen(f->steps) < 6)
                assert_true(sd_event_run(f->event, 5 * USEC_PER_SEC) > 0);
        fiber_pool_free(other);
}

/* --- what each fiber has of its own --- */

typedef struct Own {
        Trace trace;
        int error;
        bool same;
} Own;

static void check_own(void *userdata) {
        Own *own = userdata;

        errno = own->error;
        for (int i = 0; i < 3; i++) {
                const Trace *trace = log_set_trace(NULL);

                log_set_trace(trace);
                own->same = trace && memcmp(trace, &own->trace, sizeof(Trace)) == 0 && errno == own->error;
                if (!own->same)
                        return;
                assert_int_equal(fiber_sleep(0), 0);
        }
}

static void test_trace_and_errno(void **state) {
        Fixture *f = *state;
        Own owns[3] = {{.error = EBADF}, {.error = EPERM}, {.error = ENXIO}};
        Trace outside = {.parent = 99};

        log_set_trace(&outside);
        errno = EDOM;
        FOREACH_ARRAY(own, owns, ELEMENTSOF(owns)) {
                own->trace = (Trace){.parent = (uint64_t) own->error};
                assert_int_equal(
                        fiber_start(f->pool,
                                &(FiberStart){.main = check_own, .userdata = own, .trace = &own->trace},
                                NULL),
                        0);
                assert_int_equal(errno, EDOM);
        }
        run_until_idle(f);
        FOREACH_ARRAY(own, owns, ELEMENTSOF(owns))
                assert_true(own->same);
        assert_ptr_equal(log_set_trace(NULL), &outside);
}

static void test_cancel_all(void **state) {
        Fixture *f = *state;
        Sleeper sleepers[20] = {};
        Waiting w = {.f = f, .fully = true, .sleep_after = true};

        start(f, wait_for_reply, &w, NULL);
        FOREACH_ARRAY(s, sleepers, ELEMENTSOF(sleepers)) {
                s->usec = 60 * USEC_PER_SEC;
                start(f, sleep_once, s, NULL);
        }
        fiber_pool_cancel_all(f->pool);
        FOREACH_ARRAY(s, sleepers, ELEMENTSOF(sleepers))
                assert_int_equal(s->r, -ECANCELED);
        assert_string_equal(f->steps, "(");
        future_fulfil(&w.reply->future);
        assert_int_equal(w.r_after, -ECANCELED);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_await, setup, teardown),
                cmocka_unit_test_setup_teardown(test_await_what_is_there, setup, teardown),
                cmocka_unit_test_setup_teardown(test_either_is_gone_first, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel_await, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel_await_fully, setup, teardown),
                cmocka_unit_test_setup_teardown(test_sleep, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel_sleep, setup, teardown),
                cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel_self, setup, teardown),
                cmocka_unit_test_setup_teardown(test_queue, setup, teardown),
                cmocka_unit_test_setup_teardown(test_time_of_earlier_wait, setup, teardown),
                cmocka_unit_test_setup_teardown(test_queue_is_gone, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nested, setup, teardown),
                cmocka_unit_test_setup_teardown(test_woken_by_fiber, setup, teardown),
                cmocka_unit_test_setup_teardown(test_two_pools, setup, teardown),
                cmocka_unit_test_setup_teardown(test_trace_and_errno, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel_all, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
