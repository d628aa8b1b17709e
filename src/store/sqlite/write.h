/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Guards, followers and intents, inside the writer's transaction. A guard comes first and what comes behind
 * it cannot be refused, so a refused write has changed nothing and no savepoint is needed.
 *
 * Each answers 0, or a negative errno if the engine failed; then the transaction is of no use any more. */

#include "store/operation.h"
#include "store/sqlite/connection.h"

/* *ret_refused: 0, or what the operation is answered; *ret_version: that the record has now, if its type has
 * one. */
int run_guard(SqliteConnection *connection, const WriteItem *guard, uint32_t name, int *ret_refused,
        uint64_t *ret_version);
int run_extras(SqliteConnection *connection, Extras *extras, const char *partition, uint32_t name);

/* Binds all fields to their parameters and runs the statement once. 1 or 0: rows were changed; -EEXIST: a
 * key is taken. */
int run_with_all_fields(
        SqliteConnection *connection, StatementKind kind, const MessageInfo *info, const Value *values);
