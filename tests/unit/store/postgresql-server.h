/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A PostgreSQL server of the test's own: a new cluster in a directory that goes with it, on a socket in there,
 * with a user and a password. It ends with the process. */

#include <libpq-fe.h>
#include <signal.h>

#include "fixture.h"

/* For main(): starts it, runs the tests, ends it. 77, which meson takes as skipped, if PostgreSQL is not installed. */
int postgresql_run(int (*tests)(void));

/* Without the password, which is: */
const char *postgresql_uri(void);
#define POSTGRESQL_PASSWORD "correct horse"

/* A schema of its own for each fixture: its directory's name. */
StoreConfig postgresql_config(const Fixture *f);

/* Waits, and fails the test if it cannot. */
PGconn *postgresql_connect(void);
/* As the server's administrator: fails the test if that fails. The first column of the first row, as a number. */
long postgresql_query(const char *sql);

/* SIGTERM: waits for clients; SIGINT: disconnects them; SIGQUIT: as a crash. Waits for its end. */
void postgresql_stop(int signal);
void postgresql_start(void);
