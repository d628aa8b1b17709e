/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The look for gaps in the sequence numbers, over a connection that lives as long as a check does. The engine's
 * own integrity is for the server's administrator: data checksums, pg_amcheck. */

#include "store/postgresql/statement.h"
#include "store/postgresql/target.h"
#include "store/store-backend.h"

typedef struct PgChecker PgChecker;

int pg_checker_new(PgChecker **ret, Store *store, sd_event *event, const StoreConfig *config,
        const PgTarget *target, PgStatements *statements);
/* Hands back what is not answered, with -ECANCELED. */
PgChecker *pg_checker_free(PgChecker *checker);
DEFINE_CLEANUP(PgChecker *, pg_checker_free);

void pg_checker_submit(PgChecker *checker, Operation *operation);
