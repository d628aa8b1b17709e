/* SPDX-License-Identifier: Apache-2.0 */
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/time-util.h"
#include "util/work-queue.h"

#define N_ITEMS 200U

typedef struct Item {
        WorkItem work;
        unsigned n;
} Item;

typedef struct Test {
        sd_event *event;
        WorkQueue *queue;
        WorkReturn *back;
        Item items[N_ITEMS];
        unsigned n_done, last_done;
        _Atomic unsigned largest_batch, n_carried_out;
        pthread_mutex_t hold; /* the threads stop here */
        sem_t rested;
        _Atomic unsigned n_rests;
} Test;

static void on_batch(WorkList *batch, unsigned thread, void *userdata) {
        Test *t = userdata;
        unsigned n = 0;
        WorkItem *item;

        pthread_mutex_lock(&t->hold);
        pthread_mutex_unlock(&t->hold);
        TAILQ_FOREACH(item, batch, link)
                n++;
        atomic_fetch_add(&t->n_carried_out, n);
        if (n > atomic_load(&t->largest_batch))
                atomic_store(&t->largest_batch, n);
        work_return_push(t->back, batch);
}

static void on_done(WorkItem *work, void *userdata) {
        const Item *item = CONTAINER_OF(work, Item, work);
        Test *t = userdata;

        t->n_done++;
        t->last_done = item->n;
}

static void on_rest(unsigned thread, void *userdata) {
        Test *t = userdata;

        pthread_mutex_lock(&t->hold);
        pthread_mutex_unlock(&t->hold);
        atomic_fetch_add(&t->n_rests, 1);
        sem_post(&t->rested);
}

static void begin(Test *t, unsigned n_threads, unsigned max_batch) {
        *t = (Test){};
        pthread_mutex_init(&t->hold, NULL);
        sem_init(&t->rested, 0, 0);
        assert_int_equal(sd_event_new(&t->event), 0);
        assert_int_equal(work_return_new(&t->back, t->event, on_done, t), 0);
        const WorkQueueConfig config = {.name = "test",
                .n_threads = n_threads,
                .max_batch = max_batch,
                .run = on_batch,
                .rest = on_rest,
                .rest_usec = 20 * USEC_PER_MSEC,
                .userdata = t};
        assert_int_equal(work_queue_start(&t->queue, &config), 0);
}

static void push_all(Test *t) {
        for (unsigned i = 0; i < N_ITEMS; i++) {
                t->items[i].n = i;
                work_queue_push(t->queue, &t->items[i].work);
        }
}

static void end(Test *t) {
        t->queue = work_queue_stop(t->queue);
        work_return_flush(t->back);
        t->back = work_return_free(t->back);
        sd_event_unref(t->event);
        pthread_mutex_destroy(&t->hold);
        sem_destroy(&t->rested);
}

/* One thread hands back in order, in batches of what has come in meanwhile. */
static void test_order(void **state) {
        Test t;

        begin(&t, 1, 16);
        pthread_mutex_lock(&t.hold);
        push_all(&t);
        pthread_mutex_unlock(&t.hold);
        for (unsigned seen = 0; t.n_done < N_ITEMS; seen = t.n_done) {
                assert_true(sd_event_run(t.event, 10 * USEC_PER_SEC) > 0);
                assert_true(t.n_done > seen);
                assert_int_equal(t.last_done, t.n_done - 1);
        }
        assert_in_range(t.largest_batch, 2, 16);
        assert_true(work_queue_is_alive(t.queue, USEC_PER_SEC));
        end(&t);
}

static void test_stop_carries_out(void **state) {
        Test t;

        begin(&t, 4, 1);
        push_all(&t);
        end(&t);
        assert_int_equal(t.n_carried_out, N_ITEMS);
        assert_int_equal(t.n_done, N_ITEMS);
        assert_int_equal(t.largest_batch, 1);
}

static void push_and_wait(Test *t) {
        work_queue_push(t->queue, &t->items[0].work);
        for (unsigned n = t->n_done; t->n_done == n;)
                assert_true(sd_event_run(t->event, 10 * USEC_PER_SEC) > 0);
}

/* A thread rests once after its work, not without any, and what comes while it rests is carried out. */
static void test_rest(void **state) {
        Test t;

        begin(&t, 1, 1);
        for (unsigned round = 1; round <= 3; round++) {
                push_and_wait(&t);
                assert_int_equal(sem_wait(&t.rested), 0);
                assert_int_equal(t.n_rests, round);
        }
        push_and_wait(&t);
        pthread_mutex_lock(&t.hold);
        while (work_queue_is_alive(t.queue, 0)) /* until it rests */
                ;
        work_queue_push(t.queue, &t.items[1].work);
        pthread_mutex_unlock(&t.hold);
        while (t.n_done < 5)
                assert_true(sd_event_run(t.event, 10 * USEC_PER_SEC) > 0);
        end(&t);
        assert_in_range(t.n_rests, 4, 5);
}

/* Of several threads only those that worked rest. */
static void test_rest_of_idle_threads(void **state) {
        Test t;

        begin(&t, 4, 1);
        push_and_wait(&t);
        assert_int_equal(sem_wait(&t.rested), 0);
        end(&t);
        assert_int_equal(t.n_rests, 1);
}

/* What is taken back no thread sees, and a thread that is stuck shows. */
static void test_drain(void **state) {
        WorkList rest = TAILQ_HEAD_INITIALIZER(rest);
        unsigned n = 0;
        Test t;

        begin(&t, 1, 1);
        pthread_mutex_lock(&t.hold);
        push_all(&t);
        while (work_queue_is_alive(t.queue, 0)) /* until the first one is begun */
                ;
        work_queue_drain(t.queue, &rest);
        assert_false(work_queue_is_alive(t.queue, 0));
        assert_true(work_queue_is_alive(t.queue, 3600 * USEC_PER_SEC));
        pthread_mutex_unlock(&t.hold);
        while (work_list_pop(&rest))
                n++;
        end(&t);
        assert_int_equal(n, N_ITEMS - 1);
        assert_int_equal(t.n_done, 1);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_order),
                cmocka_unit_test(test_stop_carries_out),
                cmocka_unit_test(test_drain),
                cmocka_unit_test(test_rest),
                cmocka_unit_test(test_rest_of_idle_threads),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
