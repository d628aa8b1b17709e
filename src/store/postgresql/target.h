/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where the server is: what PQconnectStartParams() takes, made from StoreConfig once. */

#include <libpq-fe.h>
#include <stdbool.h>

#include "store/store.h"

typedef struct PgTarget PgTarget;

/* Names of hosts are resolved here and now, as libpq would do it in the loop, where it blocks: the addresses
 * are kept. -EINVAL if the URI is none, or holds a password; -ENOTCONN if a name has no address; -ENOMEM. It
 * is logged why. */
int pg_target_new(PgTarget **ret, const StoreConfig *config);
/* Wipes the password. */
PgTarget *pg_target_free(PgTarget *target);
DEFINE_CLEANUP(PgTarget *, pg_target_free);

/* Begins to connect; NULL when out of memory. To be driven by PQconnectPoll(). */
PGconn *pg_target_connect(const PgTarget *target);
/* Connects and waits for it, once: as pg_connect_error(). */
int pg_target_connect_wait(const PgTarget *target, uint64_t timeout_usec, PGconn **ret);

/* Why a connection failed: -EACCES the server refuses the user or the password, -ENOENT there is no such
 * database, -ENOTCONN anything else. */
int pg_connect_error(const PGconn *conn);
/* One line of PQerrorMessage(). */
void pg_error_line(const PGconn *conn, char *line, size_t size);
