/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A submission of reads as statements: those that differ only in their values become one. */

#include "store/postgresql/statement.h"

typedef struct PgRead PgRead;

/* As pg_statements_get(). */
int pg_read_new(PgRead **ret, PgStatements *statements, const Operation *o);
PgRead *pg_read_free(PgRead *read);
DEFINE_CLEANUP(PgRead *, pg_read_free);

unsigned pg_read_n_parts(const PgRead *read);
const PgStatement *pg_read_statement(const PgRead *read, unsigned part);
/* -ENOMEM */
int pg_read_parameters(PgParameters *parameters, const PgRead *read, const Operation *o, unsigned part);
/* Takes the rows that a part answered, which is no error: -ENOMEM, -EIO. */
int pg_read_result(const PgRead *read, Operation *o, unsigned part, const PGresult *result);
