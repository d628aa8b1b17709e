/* SPDX-License-Identifier: Apache-2.0 */

/* The model keeps the contract itself: in the order of submission, and as out of order as it can be. What it
 * does when it has faults is test-store-model.c's. */

#include <stdio.h>

#include "conformance.h"
#include "fixture.h"
#include "random.h"
#include "store-model.h"

#define N_SEEDS 6U

static Model *model;
static uint64_t seed;
static bool reorder;

static void begin(Fixture *f) {
        model = model_new(seed);
        model_use(model, "model");
        model_set_faults(
                model, &(ModelFaults){.reorder = reorder, .max_delay_usec = seed % 3 == 2 ? 50 : 0});
}

static void end(Fixture *f) {
        model = model_free(model);
}

static StoreConfig config(const Fixture *f) {
        StoreConfig c = fixture_config_sqlite(f);

        c.kind = "model";
        return c;
}

int main(void) {
        uint64_t last;

        conformance_n_seeds = 50;
        fixture_config = config;
        fixture_begin = begin;
        fixture_end = end;
        random_seeds("STONECHAT_TEST_SEED", N_SEEDS, &seed, &last);
        int n_failed = conformance_run();
        reorder = true;
        for (; seed < last && n_failed == 0; seed++) {
                n_failed = conformance_run();
                if (n_failed > 0)
                        printf("# failed with STONECHAT_TEST_SEED=%lu\n", (unsigned long) seed);
        }
        return n_failed;
}
