/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "web/budget.h"

typedef struct Holder {
        BudgetUse use;
        Budget *budget;
        unsigned n_evicted;
} Holder;

static void evict(BudgetUse *use) {
        Holder *holder = CONTAINER_OF(use, Holder, use);

        holder->n_evicted++;
        assert_int_equal(budget_set(holder->budget, use, 0), 0);
}

static void init(Budget *budget, Holder *holders, size_t n) {
        budget_init(budget, 100);
        FOREACH_ARRAY(holder, holders, n) {
                *holder = (Holder){.use.evict = evict, .budget = budget};
        }
}

static void test_the_oldest_go_first(void **state) {
        Budget budget;
        Holder h[4];

        init(&budget, h, ELEMENTSOF(h));
        assert_int_equal(budget_set(&budget, &h[0].use, 30), 0);
        assert_int_equal(budget_set(&budget, &h[1].use, 30), 0);
        assert_int_equal(budget_set(&budget, &h[2].use, 40), 0);
        assert_int_equal(budget.used, 100);
        /* Growing makes nobody younger. */
        assert_int_equal(budget_set(&budget, &h[1].use, 40), 0);
        assert_int_equal(h[0].n_evicted, 1);
        assert_int_equal(budget.used, 80);
        assert_int_equal(budget_set(&budget, &h[3].use, 50), 0);
        assert_int_equal(h[1].n_evicted, 1);
        assert_int_equal(h[2].n_evicted, 0);
        assert_int_equal(budget.used, 90);
        assert_int_equal(budget.n_evicted, 2);
        /* Who held nothing in between begins anew. */
        assert_int_equal(budget_set(&budget, &h[2].use, 0), 0);
        assert_int_equal(budget_set(&budget, &h[2].use, 40), 0);
        assert_int_equal(budget_set(&budget, &h[0].use, 60), 0);
        assert_int_equal(h[3].n_evicted, 1);
        assert_int_equal(h[2].n_evicted, 0);
}

static void test_who_grows_is_never_evicted(void **state) {
        Budget budget;
        Holder h[2];

        init(&budget, h, ELEMENTSOF(h));
        assert_int_equal(budget_set(&budget, &h[0].use, 10), 0);
        assert_int_equal(budget_set(&budget, &h[1].use, 50), 0);
        assert_int_equal(budget_set(&budget, &h[0].use, 100), 0);
        assert_int_equal(h[0].n_evicted, 0);
        assert_int_equal(h[1].n_evicted, 1);
}

static void test_what_can_never_fit_evicts_nobody(void **state) {
        Budget budget;
        Holder h[2];

        init(&budget, h, ELEMENTSOF(h));
        assert_int_equal(budget_set(&budget, &h[0].use, 10), 0);
        assert_int_equal(budget_set(&budget, &h[1].use, 20), 0);
        assert_int_equal(budget_set(&budget, &h[1].use, 101), -ENOBUFS);
        assert_int_equal(h[1].use.size, 20);
        assert_int_equal(h[0].n_evicted, 0);
        assert_int_equal(budget.used, 30);
        assert_int_equal(budget.n_refused, 1);
}

static void test_limits_change(void **state) {
        Budget budget;
        Holder h[3];

        init(&budget, h, ELEMENTSOF(h));
        budget.limit = 0; /* none */
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(budget_set(&budget, &h[i].use, 1000), 0);
        budget.limit = 100; /* whoever shrinks may always do so, who grows makes room */
        assert_int_equal(budget_set(&budget, &h[2].use, 40), 0);
        assert_int_equal(h[0].n_evicted, 0);
        assert_int_equal(budget_set(&budget, &h[2].use, 41), 0);
        assert_int_equal(h[0].n_evicted, 1);
        assert_int_equal(h[1].n_evicted, 1);
        assert_int_equal(budget.used, 41);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_the_oldest_go_first),
                cmocka_unit_test(test_who_grows_is_never_evicted),
                cmocka_unit_test(test_what_can_never_fit_evicts_nobody),
                cmocka_unit_test(test_limits_change),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
