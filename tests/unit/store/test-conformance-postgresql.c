/* SPDX-License-Identifier: Apache-2.0 */

/* The conformance suite on PostgreSQL. */

#include "conformance.h"
#include "postgresql-server.h"

int main(void) {
        fixture_config = postgresql_config;
        return postgresql_run(conformance_run);
}
