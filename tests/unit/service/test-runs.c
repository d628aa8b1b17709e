/* SPDX-License-Identifier: Apache-2.0 */

/* Runs of calls that keep their order: what is refused behind a failure, and for how long. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "schema-tables.h"
#include "service/runs.h"

static time_t now = 1000;

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret) {
        *ret = (struct timespec){.tv_sec = now};
        return 0;
}

static void test_orders(void **state) {
        uint64_t order = order_new(), other = order_new();

        assert_int_not_equal(order >> 16, 0);
        assert_int_not_equal(order >> 16, other >> 16);
        uint64_t again = order_again(order);
        assert_int_equal(again >> 16, order >> 16);
        assert_true(again > order);
        /* It cannot be begun anew more often: then it is another run. */
        again = order_again(order | UINT16_MAX);
        assert_int_not_equal(again >> 16, order >> 16);
        assert_int_equal(again & UINT16_MAX, 0);
}

static void test_broken(void **state) {
        uint64_t order = order_new(), again = order_again(order), later = order_again(again);
        Runs runs;

        runs_init(&runs);
        runs_break(&runs, 0, ERROR_TIMEOUT);
        assert_int_equal(runs_check(&runs, 0), ERROR_NONE);
        assert_int_equal(runs_check(&runs, order), ERROR_NONE);
        runs_break(&runs, order, ERROR_STORAGE_FULL);
        assert_int_equal(runs_check(&runs, order), ERROR_STORAGE_FULL);
        assert_int_equal(runs_check(&runs, order_new()), ERROR_NONE);
        assert_int_equal(runs_check(&runs, again), ERROR_NONE);
        runs_break(&runs, again, ERROR_TIMEOUT);
        assert_int_equal(runs_check(&runs, order), ERROR_TIMEOUT);
        assert_int_equal(runs_check(&runs, again), ERROR_TIMEOUT);
        assert_int_equal(runs_check(&runs, later), ERROR_NONE);
        /* What comes late changes nothing. */
        runs_break(&runs, order, ERROR_OVERLOADED);
        assert_int_equal(runs_check(&runs, again), ERROR_TIMEOUT);
        assert_int_equal(runs_check(&runs, later), ERROR_NONE);
        assert_int_equal(runs_n(&runs), 1);
        runs_done(&runs);
}

static void test_forgotten(void **state) {
        uint64_t first = order_new(), second = order_new();
        Runs runs;

        runs_init(&runs);
        runs_break(&runs, first, ERROR_TIMEOUT);
        now += 30;
        runs_break(&runs, second, ERROR_TIMEOUT);
        now += 29;
        assert_int_equal(runs_check(&runs, first), ERROR_TIMEOUT);
        now++;
        assert_int_equal(runs_check(&runs, first), ERROR_NONE);
        assert_int_equal(runs_check(&runs, second), ERROR_TIMEOUT);
        /* One that fails again is remembered from then on. */
        runs_break(&runs, second, ERROR_TIMEOUT);
        now += 59;
        assert_int_equal(runs_check(&runs, second), ERROR_TIMEOUT);
        now++;
        assert_int_equal(runs_check(&runs, second), ERROR_NONE);
        assert_int_equal(runs_n(&runs), 0);
        runs_done(&runs);
}

static void test_bounded(void **state) {
        uint64_t first = order_new(), second = order_new();
        Runs runs;

        runs_init(&runs);
        runs_break(&runs, first, ERROR_TIMEOUT);
        runs_break(&runs, second, ERROR_TIMEOUT);
        for (unsigned i = 2; i < RUNS_MAX; i++)
                runs_break(&runs, order_new(), ERROR_TIMEOUT);
        assert_int_equal(runs_check(&runs, first), ERROR_TIMEOUT);
        runs_break(&runs, order_new(), ERROR_TIMEOUT);
        assert_int_equal(runs_n(&runs), RUNS_MAX);
        assert_int_equal(runs_check(&runs, first), ERROR_NONE);
        assert_int_equal(runs_check(&runs, second), ERROR_TIMEOUT);
        runs_done(&runs);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_orders),
                cmocka_unit_test(test_broken),
                cmocka_unit_test(test_forgotten),
                cmocka_unit_test(test_bounded),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
