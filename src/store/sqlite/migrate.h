/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Brings a store of an older schema up to date, in the transaction in which schema.c creates what is
 * missing. It may rewrite every row: while it works it asks systemd for more time to start. */

#include "store/sqlite/connection.h"

/* Before tables and indexes are created: moves away what stands in the way. */
int sqlite_migrate_begin(SqliteConnection *connection, int64_t from_version);
/* After: fills them. */
int sqlite_migrate_finish(SqliteConnection *connection, int64_t from_version);
