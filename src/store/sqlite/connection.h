/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A connection to an SQLite database, used by one thread at a time, with its prepared statements. */

#include <sqlite3.h>

#include "store/sqlite/sql.h"
#include "util/macro.h"

typedef struct SqliteConnection SqliteConnection;

typedef enum ConnectionMode {
        CONNECTION_WRITER, /* creates the database */
        CONNECTION_READER, /* may not change anything */
        CONNECTION_CHECKPOINTER,
} ConnectionMode;

int connection_open(SqliteConnection **ret, const char *path, ConnectionMode mode);
SqliteConnection *connection_close(SqliteConnection *connection);
DEFINE_CLEANUP(SqliteConnection *, connection_close);

/* Of SQLite's threads: after so long without work they give their memory back. */
#define CONNECTION_REST_USEC (5 * 1000 * 1000ULL)

/* Frees the pages it keeps for the next query: it has not been used for a while. Outside of transactions. */
void connection_give_back(SqliteConnection *connection);

sqlite3 *connection_handle(SqliteConnection *connection);

/* What a result code of SQLite is in errnos: 0 for SQLITE_OK, SQLITE_ROW and SQLITE_DONE. */
int connection_error(SqliteConnection *connection, int rc);
/* Runs statements that need no parameters and whose rows do not matter. */
int connection_exec(SqliteConnection *connection, const char *sql);
/* Transactions, by statements that are prepared already: to roll back needs no memory. */
int connection_begin(SqliteConnection *connection); /* to write, if it is the writer's connection */
/* -ENOSPC: nothing was done. -EINPROGRESS for any other failure: the frames of the commit may lie in the
 * log, and a crash before the next commit overwrites them makes recovery find them. */
int connection_commit(SqliteConnection *connection);
/* Does nothing if there is none, as the engine may have ended it by itself. */
void connection_rollback(SqliteConnection *connection);
/* Runs a query that answers one number. */
int connection_query_number(SqliteConnection *connection, const char *sql, int64_t *ret);
/* The prepared statement of this shape, reset and ready to bind; it belongs to the connection. */
int connection_prepare(SqliteConnection *connection, const StatementShape *shape, sqlite3_stmt **ret);

/* Binds without copying: the value must live until the statement is reset. */
int statement_bind(sqlite3_stmt *statement, int parameter, const Value *value);
/* Lives until the statement moves on. */
Value statement_column(sqlite3_stmt *statement, int column);

static inline void sqlite_freep(char **p) {
        sqlite3_free(*p);
}
#define _cleanup_sqlite_free_ _cleanup_(sqlite_freep)

/* So that no statement holds its snapshot longer than the function that runs it. */
static inline void statement_resetp(sqlite3_stmt **statement) {
        sqlite3_reset(*statement);
}
#define _cleanup_reset_ _cleanup_(statement_resetp)

static inline void statement_finalizep(sqlite3_stmt **statement) {
        sqlite3_finalize(*statement);
}
#define _cleanup_finalize_ _cleanup_(statement_finalizep)
