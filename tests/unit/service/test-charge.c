/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/charge.h"
#include "util/time-util.h"

static Conf *conf;
static Charges *charges;

/* Rates so low that nothing comes back while a test runs. */
static int setup(void **state) {
        static const char *const nowhere[] = {NULL};
        static const char *const environment[] = {"STONECHAT_LIMITS_USERRATE=1",
                "STONECHAT_LIMITS_USERBURST=10", "STONECHAT_LIMITS_ADDRESSRATE=1",
                "STONECHAT_LIMITS_ADDRESSBURST=15", "STONECHAT_API_TRUSTEDPROXIES=192.0.2.99", NULL};

        if (conf_load(&(ConfSource){.dirs = nowhere, .environment = (char *const *) environment}, NULL, NULL,
                    &conf) < 0)
                return -1;
        return charges_new(&charges, conf);
}

static int teardown(void **state) {
        charges_free(charges);
        conf_free(conf);
        return 0;
}

static unsigned count(const char *user, const char *address, unsigned cost) {
        unsigned n = 0;

        while (n < 100 && charge(charges, user, address, cost) == 0)
                n++;
        return n;
}

static void test_by_user_and_address(void **state) {
        assert_int_equal(count("ann", "192.0.2.1", 1), 10);
        assert_int_equal(count("ann", "192.0.2.2", 1), 0); /* wherever she is */
        assert_int_equal(count("bob", "192.0.2.1", 1), 5); /* what she left of the address */
        assert_int_equal(count("bob", "192.0.2.3", 1), 5); /* he had paid for five */
        assert_int_equal(count(NULL, "192.0.2.1", 1), 0);
        assert_int_equal(count("", "192.0.2.4", 1), 15);
        assert_int_equal(count("eve", NULL, 1), 10); /* without an address */
}

static void test_costs(void **state) {
        assert_int_equal(count("ann", "", 4), 2);
        assert_int_equal(count("ann", "", 1), 2);
        assert_in_range(charge(charges, "ann", "", 4), 3 * USEC_PER_SEC, 4 * USEC_PER_SEC + 1);
}

static void test_addresses(void **state) {
        assert_int_equal(count(NULL, "2001:db8:1:2::1", 1), 15);
        assert_int_equal(count(NULL, "2001:db8:1:2:3::", 1), 0); /* the same network */
        assert_int_equal(count(NULL, "2001:db8:1:3::1", 1), 15);
        assert_int_equal(count(NULL, "192.0.2.99", 1), 100); /* a proxy: anybody */
}

static void test_wait(void **state) {
        assert_int_equal(charge_wait(charges, "192.0.2.1"), 0);
        assert_int_equal(count(NULL, "192.0.2.1", 1), 15); /* asking took nothing */
        assert_in_range(charge_wait(charges, "192.0.2.1"), 1, USEC_PER_SEC + 1);
        assert_int_equal(charge_wait(charges, "192.0.2.99"), 0);
        assert_int_equal(charge_wait_seconds(0), 1);
        assert_int_equal(charge_wait_seconds(1), 1);
        assert_int_equal(charge_wait_seconds(USEC_PER_SEC + 1), 2);
        assert_int_equal(charge_wait_seconds(UINT64_MAX - USEC_PER_SEC), 3600);
}

static void test_no_limits(void **state) {
        conf->limits_user_rate = conf->limits_address_rate = 0;
        assert_int_equal(count("ann", "192.0.2.1", 50), 100);
}

static unsigned count_traces(const char *user, const char *address, bool asked) {
        unsigned n = 0;

        for (unsigned i = 0; i < 100; i++) {
                Trace trace = {.sampled = true, .asked = asked};
                charge_trace(charges, user, address, &trace);
                n += trace.sampled;
        }
        return n;
}

static void test_traces(void **state) {
        Trace unwanted = {};

        conf->log_trace_rate = 20;
        conf->log_trace_user_rate = 4;
        charge_trace(charges, "ann", "192.0.2.1", &unwanted);
        assert_false(unwanted.sampled);
        assert_int_equal(count_traces("ann", "192.0.2.1", true), 4);
        assert_int_equal(count_traces("ann", "192.0.2.2", true), 0); /* wherever she is */
        assert_int_equal(count_traces(NULL, "192.0.2.1", true), 4); /* nobody in particular there */
        assert_int_equal(count_traces("", "192.0.2.1", false), 0);
        /* What nobody asked for stops at the half, what a user asks for does not. */
        assert_int_equal(count_traces("bob", "", false), 3);
        assert_int_equal(count_traces("", "192.0.2.3", true), 0);
        assert_int_equal(count_traces("eve", "", true), 4);
        conf->log_trace_user_rate = 0;
        assert_in_range(count_traces("ann", "", true), 5, 6);
        conf->log_trace_rate = 0;
        assert_int_equal(count_traces("pat", "", true), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_by_user_and_address),
                TEST(test_costs),
                TEST(test_addresses),
                TEST(test_wait),
                TEST(test_no_limits),
                TEST(test_traces),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
