/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The one thread that writes to an SQLite store. It takes whatever is queued and commits it as one
 * transaction; what comes in meanwhile goes into the next (group commit, without waiting for company).
 *
 * An operation that is refused (-EEXIST, -ENOENT, -ESTALE) leaves nothing behind and does not concern the
 * others of its transaction. When the engine fails, in a statement or in the commit, the transaction is
 * rolled back, all its operations get the error, and the next transaction is tried as if nothing had been.
 *
 * What was reported as failed may yet be in the log: if an fsync fails, the frames of the commit lie in the
 * file, and a crash before the next commit overwrites them makes recovery find them. Running a failed
 * operation again is therefore safe where its outcome can be told: an append finds its messages by
 * (sender, client_msg_id), an insert its key, an update its version. */

#include "store/sqlite-checkpoint.h"
#include "store/store-backend.h"

typedef struct Writer Writer;

/* Takes the connection, also on failure. */
int writer_start(Writer **ret, Store *store, const StoreConfig *config, Connection *connection,
        Checkpointer *checkpointer);
/* Carries out what is queued first. */
Writer *writer_stop(Writer *writer);

void writer_submit(Writer *writer, Operation *operation);
bool writer_is_alive(Writer *writer, uint64_t max_busy_usec);
