/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/limiter.h"
#include "util/time-util.h"

#define MINUTE (60 * USEC_PER_SEC)

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

static void test_take(void **state) {
        _cleanup_(limiter_freep) Limiter *limiter = NULL;

        assert_int_equal(limiter_new(&limiter, 10), 0);
        assert_int_equal(1, limiter_take(limiter, "a", 2, 2, 1));
        assert_int_equal(1, limiter_take(limiter, "a", 2, 2, 1));
        assert_int_equal(0, limiter_take(limiter, "a", 2, 2, 1));
        assert_int_equal(1, limiter_take(limiter, "b", 2, 2, 1)); /* others are not concerned */
        assert_int_equal(0, limiter_take(limiter, "a", 2, 2, 1 + MINUTE / 4));
        assert_int_equal(1, limiter_take(limiter, "a", 2, 2, 1 + MINUTE / 2));
        assert_int_equal(1, limiter_take(limiter, "a", 0, 2, 1)); /* no limit */
        assert_int_equal(limiter_n_entries(limiter), 2);
}

static void test_bounded(void **state) {
        _cleanup_(limiter_freep) Limiter *limiter = NULL;
        char key[16];

        assert_int_equal(limiter_new(&limiter, 10), 0);
        assert_int_equal(1, limiter_take(limiter, "first", 1, 1, 1));
        for (unsigned i = 0; i < 9; i++) {
                snprintf(key, sizeof(key), "%u", i);
                assert_int_equal(1, limiter_take(limiter, key, 1, 1, 1));
        }
        /* Refused, and by that the one used last. */
        assert_int_equal(0, limiter_take(limiter, "first", 1, 1, 1));
        assert_int_equal(1, limiter_take(limiter, "new", 1, 1, 1));
        assert_int_equal(limiter_n_entries(limiter), 10);
        assert_int_equal(0, limiter_take(limiter, "first", 1, 1, 1)); /* still known */
        assert_int_equal(1, limiter_take(limiter, "0", 1, 1, 1)); /* was unused for longest and forgotten */
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
                        int r = limiter_take(limiter, key, 1, 1, 1);
                        if (r == 1)
                                continue;
                        assert_int_equal(r, -ENOMEM);
                        assert_int_equal(limiter_n_entries(limiter), i);
                        n_refused++;
                        assert_int_equal(limiter_take(limiter, key, 1, 1, 1), 1);
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
                cmocka_unit_test(test_bounded),
                cmocka_unit_test(test_out_of_memory),
                cmocka_unit_test(test_address_key),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
