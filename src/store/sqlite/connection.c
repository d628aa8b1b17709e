/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/connection.h"

#include <pthread.h>
#include <sys/queue.h>

#include "log/log.h"
#include "store/sqlite/wal-vfs.h"

/* How long one connection waits for another's lock. Nobody holds one for long: there is one writer, and a
 * checkpoint that needs the writer out of the way runs when there is nothing to write. */
#define BUSY_MSEC 5000

typedef struct Statement {
        LIST_ENTRY(Statement) link;
        StatementShape shape;
        sqlite3_stmt *statement;
} Statement;

struct SqliteConnection {
        sqlite3 *db;
        sqlite3_stmt *begin, *commit, *rollback;
        /* As many as there are shapes in the program: a few dozen. The one used last comes first. */
        LIST_HEAD(, Statement) statements;
};

/* Small pages: an append touches two of them wherever its conversation and its sender stand, and each one
 * touched is written to the log. No mmap: an I/O error there is a signal, not an error code. Deleted content
 * may stay in free pages: who can read the file can read what is not deleted too. */
static const char *const pragmas_writer =
        "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
        "PRAGMA secure_delete = OFF; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -32768;"
        "PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY";
static const char *const pragmas_reader = "PRAGMA query_only = ON; PRAGMA cache_size = -4096; PRAGMA "
                                          "mmap_size = 0; PRAGMA temp_store = MEMORY";
static const char *const pragmas_checkpointer = "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; "
                                                "PRAGMA cache_size = -256; PRAGMA mmap_size = 0";

/* What happened in detail: the callers get an errno. The text may name tables and files, and statements with
 * their parameters unbound. */
static void on_library_log(_unused_ void *userdata, int rc, const char *text) {
        switch (rc & 0xff) {
        case SQLITE_CONSTRAINT: /* an ordinary answer */
        case SQLITE_SCHEMA: /* a statement was prepared again */
        case SQLITE_INTERRUPT:
                return;
        case SQLITE_NOTICE:
                log_peer((), LOG_INFO, "SQLite: %s", text);
                return;
        default:
                log_peer((), LOG_ERR, "SQLite: %s (%d)", text, rc);
        }
}

static const char *vfs; /* NULL: the default */

static void configure_library(void) {
        sqlite3_config(SQLITE_CONFIG_LOG, on_library_log, NULL);
        /* Its counters would cost a global lock at every allocation. Refused once SQLite is in use: then it
         * stays as it is. */
        sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
        vfs = wal_vfs_register();
}

static int prepare_transactions(SqliteConnection *c, ConnectionMode mode) {
        const struct {
                const char *sql;
                sqlite3_stmt **ret;
        } statements[] = {
                {mode == CONNECTION_WRITER ? "BEGIN IMMEDIATE" : "BEGIN", &c->begin},
                {"COMMIT", &c->commit},
                {"ROLLBACK", &c->rollback},
        };
        int rc = SQLITE_OK;

        FOREACH_ARRAY(s, statements, ELEMENTSOF(statements))
                rc = rc ?: sqlite3_prepare_v3(c->db, s->sql, -1, SQLITE_PREPARE_PERSISTENT, s->ret, NULL);
        return connection_error(c, rc);
}

int connection_open(SqliteConnection **ret, const char *path, ConnectionMode mode) {
        static pthread_once_t configured = PTHREAD_ONCE_INIT;
        static const char *const pragmas[] = {
                [CONNECTION_WRITER] = pragmas_writer,
                [CONNECTION_READER] = pragmas_reader,
                [CONNECTION_CHECKPOINTER] = pragmas_checkpointer,
        };
        int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;

        pthread_once(&configured, configure_library);
        _cleanup_(connection_closep) SqliteConnection *connection = new0(SqliteConnection, 1);
        if (!connection)
                return -ENOMEM;
        if (mode == CONNECTION_WRITER)
                flags |= SQLITE_OPEN_CREATE;
        int rc = sqlite3_open_v2(path, &connection->db, flags, vfs);
        if (rc != SQLITE_OK)
                return connection_error(connection, rc);
        sqlite3_busy_timeout(connection->db, BUSY_MSEC);
        int r = connection_exec(connection, pragmas[mode]);
        if (r >= 0)
                r = prepare_transactions(connection, mode);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(connection);
        return 0;
}

SqliteConnection *connection_close(SqliteConnection *connection) {
        if (!connection)
                return NULL;
        while (!LIST_EMPTY(&connection->statements)) {
                Statement *statement = LIST_FIRST(&connection->statements);
                LIST_REMOVE(statement, link);
                sqlite3_finalize(statement->statement);
                free(statement);
        }
        sqlite3_finalize(connection->begin);
        sqlite3_finalize(connection->commit);
        sqlite3_finalize(connection->rollback);
        sqlite3_close(connection->db);
        free(connection);
        return NULL;
}

void connection_give_back(SqliteConnection *connection) {
        (void) sqlite3_db_release_memory(connection->db);
}

sqlite3 *connection_handle(SqliteConnection *connection) {
        return connection->db;
}

int connection_error(SqliteConnection *connection, int rc) {
        switch (rc & 0xff) {
        case SQLITE_OK:
        case SQLITE_ROW:
        case SQLITE_DONE:
                return 0;
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_INTERRUPT:
                return -ECANCELED;
        case SQLITE_IOERR:
                if (rc == SQLITE_IOERR_NOMEM)
                        return -ENOMEM;
                /* The log's index file and quotas: no SQLITE_FULL for those. */
                if (connection->db && (sqlite3_system_errno(connection->db) == ENOSPC ||
                                              sqlite3_system_errno(connection->db) == EDQUOT))
                        return -ENOSPC;
                return -EIO;
        default:
                return -EIO;
        }
}

int connection_exec(SqliteConnection *connection, const char *sql) {
        return connection_error(connection, sqlite3_exec(connection->db, sql, NULL, NULL, NULL));
}

/* The statement's own result counts: sqlite3_reset() repeats it. */
static int run_once(SqliteConnection *connection, sqlite3_stmt *statement) {
        (void) sqlite3_step(statement);
        return connection_error(connection, sqlite3_reset(statement));
}

int connection_begin(SqliteConnection *connection) {
        return run_once(connection, connection->begin);
}

/* A write of the log that found no space came before the frame that makes the others count. */
int connection_commit(SqliteConnection *connection) {
        int r = run_once(connection, connection->commit);
        if (r >= 0)
                return 0;
        int rc = sqlite3_extended_errcode(connection->db);
        return r == -ENOSPC && (rc == SQLITE_FULL || rc == SQLITE_IOERR_WRITE) ? -ENOSPC : -EINPROGRESS;
}

void connection_rollback(SqliteConnection *connection) {
        if (!sqlite3_get_autocommit(connection->db))
                (void) run_once(connection, connection->rollback);
}

int connection_query_number(SqliteConnection *connection, const char *sql, int64_t *ret) {
        _cleanup_finalize_ sqlite3_stmt *statement = NULL;

        int rc = sqlite3_prepare_v2(connection->db, sql, -1, &statement, NULL);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(statement);
        if (rc != SQLITE_ROW)
                return connection_error(connection, rc) ?: -EIO;
        *ret = sqlite3_column_int64(statement, 0);
        return 0;
}

static Statement *find_statement(SqliteConnection *connection, const StatementShape *shape) {
        Statement *statement;

        LIST_FOREACH(statement, &connection->statements, link)
                if (memcmp(&statement->shape, shape, sizeof(*shape)) == 0)
                        return statement;
        return NULL;
}

static int new_statement(SqliteConnection *connection, const StatementShape *shape, Statement **ret) {
        _cleanup_free_ Statement *statement = new0(Statement, 1);
        _cleanup_sqlite_free_ char *sql = sql_statement(shape);

        if (!statement || !sql)
                return -ENOMEM;
        int rc = sqlite3_prepare_v3(
                connection->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement->statement, NULL);
        if (rc != SQLITE_OK)
                return connection_error(connection, rc);
        statement->shape = *shape;
        *ret = TAKE_PTR(statement);
        return 0;
}

int connection_prepare(SqliteConnection *connection, const StatementShape *shape, sqlite3_stmt **ret) {
        Statement *statement = find_statement(connection, shape);

        if (statement)
                LIST_REMOVE(statement, link);
        else {
                int r = new_statement(connection, shape, &statement);
                if (r < 0)
                        return r;
        }
        LIST_INSERT_HEAD(&connection->statements, statement, link);
        *ret = statement->statement;
        return 0;
}

int statement_bind(sqlite3_stmt *statement, int parameter, const Value *value) {
        switch (value->type) {
        case VALUE_NULL:
                return sqlite3_bind_null(statement, parameter);
        case VALUE_INTEGER:
                return sqlite3_bind_int64(statement, parameter, value->integer);
        case VALUE_REAL:
                return sqlite3_bind_double(statement, parameter, value->real);
        case VALUE_TEXT:
                return sqlite3_bind_text(
                        statement, parameter, value->text, (int) value->size, SQLITE_STATIC);
        case VALUE_BLOB:
                return sqlite3_bind_blob(
                        statement, parameter, value->blob, (int) value->size, SQLITE_STATIC);
        }
        return SQLITE_MISUSE;
}

Value statement_column(sqlite3_stmt *statement, int column) {
        switch (sqlite3_column_type(statement, column)) {
        case SQLITE_INTEGER:
                return (Value){.type = VALUE_INTEGER, .integer = sqlite3_column_int64(statement, column)};
        case SQLITE_FLOAT:
                return (Value){.type = VALUE_REAL, .real = sqlite3_column_double(statement, column)};
        case SQLITE_TEXT: {
                /* The pointer first: asking for it may change the size. */
                const char *text = (const char *) sqlite3_column_text(statement, column);
                return (Value){.type = VALUE_TEXT,
                        .size = text ? (uint32_t) sqlite3_column_bytes(statement, column) : 0,
                        .text = text ?: ""};
        }
        case SQLITE_BLOB: {
                const void *blob = sqlite3_column_blob(statement, column);
                return (Value){.type = VALUE_BLOB,
                        .size = blob ? (uint32_t) sqlite3_column_bytes(statement, column) : 0,
                        .blob = blob ?: ""};
        }
        default:
                return (Value){.type = VALUE_NULL};
        }
}
