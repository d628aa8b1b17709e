/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Creates the schema and brings it up to date, before the loop runs. */

#include <libpq-fe.h>

#include "store/store.h"

/* Raised when what is stored changes its meaning; version 1 was never made for PostgreSQL. */
#define PG_SCHEMA_VERSION 2

/* In one transaction, under a lock, so that two roles, or two hosts, can start at once. -EUCLEAN if what is
 * there is newer, -EINVAL if the database does not store UTF-8, -EACCES if the user may not create what is
 * missing. Logs why. */
int pg_schema_ensure(PGconn *conn, const StoreConfig *config);
