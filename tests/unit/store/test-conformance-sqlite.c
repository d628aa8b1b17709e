/* SPDX-License-Identifier: Apache-2.0 */
#include "conformance.h"
#include "fixture.h"

int main(void) {
        fixture_config = fixture_config_sqlite;
        conformance_n_seeds = 50;
        return conformance_run();
}
