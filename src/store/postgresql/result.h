/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Results in PostgreSQL's binary form, as values and records. */

#include <libpq-fe.h>

#include "store/postgresql/sql.h"

/* What an error means for a transaction. */
typedef enum PgFailure {
        PG_FAILURE_FINAL, /* it will fail again */
        PG_FAILURE_RETRY, /* a conflict with another transaction: it may succeed */
        PG_FAILURE_READ_ONLY, /* this server takes no writes: look for the one that does */
} PgFailure;

/* The negative errno for an error result. Logs what is no conflict, without any stored value. */
int pg_result_error(const PGresult *result, PgFailure *ret);

/* -EBADMSG, which means that a table is not what it should be: */
int pg_result_number(const PGresult *result, int row, int column, int64_t *ret);
/* A row as a record in the arena; the fields begin at column `first`. *ret_size: of its values. */
int pg_result_record(const PGresult *result, int row, int first, const MessageInfo *info, Arena *arena,
        ProtobufCMessage **ret, size_t *ret_size);
/* An array of rows of all fields: n records in the arena. */
int pg_result_records(const PGresult *result, int row, int column, const MessageInfo *info, Arena *arena,
        ProtobufCMessage ***ret, size_t *ret_n);
