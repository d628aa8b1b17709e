/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* All reads, over connections of their own. What one submission reads goes over the wire as one, reads of the
 * same shape as one statement. A read whose connection was lost is sent again over another. */

#include "store/postgresql/statement.h"
#include "store/postgresql/target.h"
#include "store/store-backend.h"

typedef struct PgReaders PgReaders;

int pg_readers_new(PgReaders **ret, Store *store, sd_event *event, const StoreConfig *config,
        const PgTarget *target, PgStatements *statements);
/* Hands back what is not answered, with -ECANCELED. */
PgReaders *pg_readers_free(PgReaders *readers);
DEFINE_CLEANUP(PgReaders *, pg_readers_free);

void pg_readers_submit(PgReaders *readers, Operation *operation);
/* Is one of them connected? */
bool pg_readers_are_connected(const PgReaders *readers);
