/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "service/limiter.h"
#include "util/time-util.h"

#define SECOND USEC_PER_SEC

/* The linker's --wrap sends the calls here. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

static unsigned countdown; /* the allocation that fails; 0: none */

static bool fails(void) {
        return countdown > 0 && --countdown == 0;
}

void *__wrap_malloc(size_t size) {
        return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        return fails() ? NULL : __real_calloc(n, size);
}

/* One token of one bucket: 1, 0 or -ENOMEM. */
static int take_one(Limiter *limiter, const char *key, double rate, double burst, uint64_t now) {
        const LimiterTake take = {limiter, key, rate, burst, 1};
        uint64_t wait = 0;

        int r = limiter_take(&take, 1, now, &wait);
        assert_int_equal(wait > 0, r == 0);
        return r;
}

static void test_take(void **state) {
        _cleanup_(limiter_freep) Limiter *limiter = NULL;

        assert_int_equal(limiter_new(&limiter, 10), 0);
        assert_int_equal(1, take_one(limiter, "a", 2, 2, 1));
        assert_int_equal(1, take_one(limiter, "a", 2, 2, 1));
        assert_int_equal(0, take_one(limiter, "a", 2, 2, 1));
        assert_int_equal(1, take_one(limiter, "b", 2, 2, 1)); /* others are not concerned */
        assert_int_equal(0, take_one(limiter, "a", 2, 2, 1 + SECOND / 4));
        assert_int_equal(1, take_one(limiter, "a", 2, 2, 1 + SECOND / 2));
        assert_int_equal(1, take_one(limiter, "a", 0, 2, 1)); /* no limit */
        assert_int_equal(limiter_n_entries(limiter), 2);
}

/* It is told when to come again, and then it is let in. */
static void test_wait(void **state) {
        _cleanup_(limiter_freep) Limiter *limiter = NULL;
        LimiterTake take;
        uint64_t wait;

        assert_int_equal(limiter_new(&limiter, 10), 0);
        take = (LimiterTake){limiter, "a", .rate = 0.3, .burst = 7, .n = 5};
        assert_int_equal(limiter_wait(&take, 1), 0); /* nobody knows it yet */
        assert_int_equal(limiter_n_entries(limiter), 0);
        assert_int_equal(limiter_take(&take, 1, 1, &wait), 1);
        assert_int_equal(limiter_take(&take, 1, 1, &wait), 0);
        assert_in_range(wait, 9999990, 10000010);
        assert_int_equal(limiter_wait(&take, 1), wait);
        uint64_t later = 1 + wait;
        assert_int_equal(limiter_take(&take, 1, later - 10, &wait), 0);
        assert_int_equal(limiter_take(&take, 1, later, &wait), 1);
        /* What costs more than fits costs all of it, and not for ever more than there is. */
        take.n = 100;
        assert_int_equal(limiter_take(&take, 1, later + 3600 * SECOND, &wait), 1);
        assert_int_equal(limiter_take(&take, 1, later + 3600 * SECOND, &wait), 0);
}

/* From both or from none: who is refused by the one is not charged by the other. */
static void test_two_at_once(void **state) {
        _cleanup_(limiter_freep) Limiter *users = NULL, *addresses = NULL;
        uint64_t wait;

        assert_int_equal(limiter_new(&users, 10), 0);
        assert_int_equal(limiter_new(&addresses, 10), 0);
        const LimiterTake greedy[] = {{users, "greedy", 1, 2, 1}, {addresses, "here", 1, 3, 1}};
        const LimiterTake other[] = {{users, "other", 1, 2, 1}, {addresses, "here", 1, 3, 1}};
        for (unsigned i = 0; i < 10; i++)
                assert_int_equal(limiter_take(greedy, 2, 1, &wait), i < 2);
        assert_int_equal(limiter_take(other, 2, 1, &wait), 1);
        assert_int_equal(limiter_take(other, 2, 1, &wait), 0);
        assert_int_equal(limiter_take(other, 1, 1, &wait), 1); /* the user's was not taken */
}

/* Those that are full again are forgotten, as others come. */
static void test_full_ones_are_forgotten(void **state) {
        _cleanup_(limiter_freep) Limiter *limiter = NULL;
        char key[16];

        assert_int_equal(limiter_new(&limiter, 1000), 0);
        for (unsigned i = 0; i < 100; i++) {
                snprintf(key, sizeof(key), "%u", i);
                assert_int_equal(take_one(limiter, key, 1, 10, 1), 1);
        }
        assert_int_equal(limiter_n_entries(limiter), 100);
        for (unsigned i = 0; i < 100; i++)
                assert_int_equal(take_one(limiter, "another", 1, 1000, 2 + SECOND), 1);
        assert_int_equal(limiter_n_entries(limiter), 1);
}

static void test_bounded(void **state) {
        _cleanup_(limiter_freep) Limiter *limiter = NULL;
        char key[16];

        assert_int_equal(limiter_new(&limiter, 10), 0);
        assert_int_equal(1, take_one(limiter, "first", 1, 1, 1));
        for (unsigned i = 0; i < 9; i++) {
                snprintf(key, sizeof(key), "%u", i);
                assert_int_equal(1, take_one(limiter, key, 1, 1, 1));
        }
        /* Refused, and by that the one used last. */
        assert_int_equal(0, take_one(limiter, "first", 1, 1, 1));
        assert_int_equal(1, take_one(limiter, "new", 1, 1, 1));
        assert_int_equal(limiter_n_entries(limiter), 10);
        assert_int_equal(0, take_one(limiter, "first", 1, 1, 1)); /* still known */
        assert_int_equal(1, take_one(limiter, "0", 1, 1, 1)); /* was unused for longest and forgotten */
}

/* The n-th allocation fails, for every n, those of the hash table too: that take is refused with an error of
 * its own, and the next one finds a limiter in order. */
static void test_out_of_memory(void **state) {
        unsigned n_refused, n = 0;
        char key[16];

        do {
                _cleanup_(limiter_freep) Limiter *limiter = NULL;
                n_refused = 0;
                assert_int_equal(limiter_new(&limiter, 2000), 0);
                countdown = ++n;
                for (unsigned i = 0; i < 1000; i++) {
                        snprintf(key, sizeof(key), "%u", i);
                        int r = take_one(limiter, key, 1, 1, 1);
                        if (r == 1)
                                continue;
                        assert_int_equal(r, -ENOMEM);
                        assert_int_equal(limiter_n_entries(limiter), i);
                        n_refused++;
                        assert_int_equal(take_one(limiter, key, 1, 1, 1), 1);
                }
                assert_int_equal(limiter_n_entries(limiter), 1000);
                assert_true(n_refused <= 1);
        } while (countdown == 0);
        assert_true(n > 1000);
        countdown = 0;
}

static void test_address_key(void **state) {
        static const struct {
                const char *address, *key;
        } cases[] = {
                {"192.0.2.7", "192.0.2.7"},
                {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"},
                {"2001:db8:1:2::1", "2001:db8:1:2::"},
                {"::1", "::"},
                {"::ffff:192.0.2.7", "::ffff:192.0.2.7"},
                {"unix", "unix"},
                {"", ""},
        };
        char key[ADDRESS_KEY_SIZE];

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                address_limit_key(c->address, key);
                assert_string_equal(key, c->key);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_take),
                cmocka_unit_test(test_wait),
                cmocka_unit_test(test_two_at_once),
                cmocka_unit_test(test_full_ones_are_forgotten),
                cmocka_unit_test(test_bounded),
                cmocka_unit_test(test_out_of_memory),
                cmocka_unit_test(test_address_key),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
