/* SPDX-License-Identifier: Apache-2.0 */
#include "conformance.h"

int conformance_run(void) {
        return conformance_run_guards() + conformance_run_followers() + conformance_run_contract() +
               conformance_run_intents() + conformance_run_appends() + conformance_run_order() +
               conformance_run_durability() + conformance_run_values() + conformance_run_reads() +
               conformance_run_fibers() + conformance_run_random();
}
