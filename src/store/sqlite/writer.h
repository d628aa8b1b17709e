/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The one thread that writes to an SQLite store. It takes whatever is queued and commits it as one
 * transaction; what comes in meanwhile goes into the next (group commit, without waiting for company).
 *
 * An operation that is refused (-EEXIST, -ENOENT, -ESTALE) leaves nothing behind and does not concern the
 * others of its transaction. When the engine fails in one, or finds no space to commit, the transaction is
 * rolled back and its operations run again, each in a transaction of its own, so that one that cannot be
 * done fails alone. When the commit itself fails the outcome of all is unknown. The next transaction is
 * tried as if nothing had been. */

#include "store/sqlite/checkpoint.h"
#include "store/store-backend.h"

typedef struct Writer Writer;

/* Takes the connection, also on failure. */
int writer_start(Writer **ret, Store *store, const StoreConfig *config, SqliteConnection *connection,
        Checkpointer *checkpointer);
/* Carries out what is queued first. */
Writer *writer_stop(Writer *writer);

void writer_submit(Writer *writer, Operation *operation);
bool writer_is_alive(Writer *writer, uint64_t max_busy_usec);
