/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* All writes, over one connection: batches of them, each a transaction, two of which may be under way. So they
 * complete in the order in which they were submitted.
 *
 * When a statement fails, its transaction and those sent behind it fail with it. Then the writes of that
 * transaction are carried out one by one, which shows whose fault it was, and the others behind them as usual.
 */

#include "store/postgresql/statement.h"
#include "store/postgresql/target.h"
#include "store/store-backend.h"

typedef struct PgWriter PgWriter;

int pg_writer_new(PgWriter **ret, Store *store, sd_event *event, const StoreConfig *config,
        const PgTarget *target, PgStatements *statements);
/* Carries out what is queued, if the server can be reached, and hands all of it back. */
PgWriter *pg_writer_free(PgWriter *w);
DEFINE_CLEANUP(PgWriter *, pg_writer_free);

void pg_writer_submit(PgWriter *w, Operation *operation);
bool pg_writer_is_connected(const PgWriter *w);
