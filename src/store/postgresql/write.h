/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Operations that write, as series of statements: the guard, each follower, and the intents together. */

#include "store/postgresql/statement.h"

unsigned pg_write_n_parts(const Operation *o);
/* The statement of a part: as pg_statements_get(). */
int pg_write_statement(PgStatements *statements, const Operation *o, unsigned part, const PgStatement **ret);
/* -ENOMEM */
int pg_write_parameters(
        PgParameters *parameters, const Operation *o, unsigned part, const PgStatement *statement);
/* Takes the outcome from what a part answered, which is no error: -EIO if it is not what it should be. */
int pg_write_result(Operation *o, unsigned part, const PGresult *result);
