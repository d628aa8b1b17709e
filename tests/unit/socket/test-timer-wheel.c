/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "socket/timer-wheel.h"

static TimerWheel wheel;
static unsigned n_due;
static TimerWheelEntry *last_due, *to_remove;
static uint32_t again;

static void on_due(TimerWheelEntry *entry, uint32_t now) {
        n_due++;
        last_due = entry;
        if (again > 0)
                timer_wheel_set(&wheel, entry, now + again);
        if (to_remove)
                timer_wheel_remove(&wheel, to_remove);
}

static int set_up(void **state) {
        sd_event *event;

        n_due = 0;
        last_due = to_remove = NULL;
        again = 0;
        assert_int_equal(sd_event_new(&event), 0);
        assert_true(timer_wheel_init(&wheel, event, on_due) >= 0);
        *state = event;
        return 0;
}

static int tear_down(void **state) {
        timer_wheel_done(&wheel);
        sd_event_unref(*state);
        return 0;
}

static void test_due_once_and_in_its_second(void **state) {
        TimerWheelEntry a = {}, b = {};
        uint32_t now = wheel.now;

        timer_wheel_set(&wheel, &a, now + 2);
        timer_wheel_set(&wheel, &b, now + 3);
        timer_wheel_advance(&wheel, now + 1);
        assert_int_equal(n_due, 0);
        timer_wheel_advance(&wheel, now + 2);
        assert_int_equal(n_due, 1);
        assert_ptr_equal(last_due, &a);
        timer_wheel_advance(&wheel, now + 10);
        assert_int_equal(n_due, 2);
        assert_ptr_equal(last_due, &b);
        assert_int_equal(wheel.n_entries, 0);
}

static void test_far_deadlines_wait_whole_turns(void **state) {
        TimerWheelEntry a = {};
        uint32_t now = wheel.now, far = 2 * TIMER_WHEEL_SLOTS + 5;

        timer_wheel_set(&wheel, &a, now + far);
        for (uint32_t i = 1; i < far; i++)
                timer_wheel_advance(&wheel, now + i);
        assert_int_equal(n_due, 0);
        timer_wheel_advance(&wheel, now + far);
        assert_int_equal(n_due, 1);
}

static void test_a_long_sleep_misses_nothing(void **state) {
        TimerWheelEntry a = {}, b = {};
        uint32_t now = wheel.now;

        timer_wheel_set(&wheel, &a, now + 7);
        timer_wheel_set(&wheel, &b, now + 3 * TIMER_WHEEL_SLOTS);
        timer_wheel_advance(&wheel, now + 2 * TIMER_WHEEL_SLOTS);
        assert_int_equal(n_due, 1);
        timer_wheel_advance(&wheel, now + 9 * TIMER_WHEEL_SLOTS);
        assert_int_equal(n_due, 2);
}

static void test_moved_and_removed(void **state) {
        TimerWheelEntry a = {}, b = {};
        uint32_t now = wheel.now;

        timer_wheel_set(&wheel, &a, now + 2);
        timer_wheel_set(&wheel, &a, now + 5);
        timer_wheel_set(&wheel, &b, now + 2);
        timer_wheel_remove(&wheel, &b);
        timer_wheel_remove(&wheel, &b);
        timer_wheel_advance(&wheel, now + 4);
        assert_int_equal(n_due, 0);
        timer_wheel_advance(&wheel, now + 5);
        assert_int_equal(n_due, 1);
}

static void test_set_and_removed_while_due(void **state) {
        TimerWheelEntry a = {}, b = {};
        uint32_t now = wheel.now;

        timer_wheel_set(&wheel, &a, now + 1);
        timer_wheel_set(&wheel, &b, now + 1 + TIMER_WHEEL_SLOTS); /* the same slot, later */
        again = TIMER_WHEEL_SLOTS;
        to_remove = &b;
        timer_wheel_advance(&wheel, now + 1);
        assert_int_equal(n_due, 1);
        assert_int_equal(wheel.n_entries, 1);
        timer_wheel_advance(&wheel, now + 1 + TIMER_WHEEL_SLOTS);
        assert_int_equal(n_due, 2);
        timer_wheel_remove(&wheel, &a);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_due_once_and_in_its_second, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_far_deadlines_wait_whole_turns, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_a_long_sleep_misses_nothing, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_moved_and_removed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_set_and_removed_while_due, set_up, tear_down),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
