/* SPDX-License-Identifier: Apache-2.0 */
#include "conformance.h"
#include "fixture.h"

int main(void) {
        fixture_config = fixture_config_sqlite;
        int n_failed = conformance_run_writes();
        return n_failed + conformance_run_reads();
}
