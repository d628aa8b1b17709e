/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite-writer.h"

#include "log/log.h"
#include "store/operation-queue.h"
#include "store/sqlite-append.h"
#include "store/thread.h"

struct Writer {
        Store *store;
        Connection *connection;
        Checkpointer *checkpointer;
        Appender appender;
        OperationQueue queue;
        unsigned batch_operations;
        unsigned log_pages; /* after the last commit */
        BusyClock busy;
        pthread_t thread;
        bool started;
};

/* Binds all fields, or those that a statement by key needs. */
static int bind_fields(sqlite3_stmt *statement, const WriteItem *item, bool all) {
        const RecordInfo *record = item->info->record;
        int rc = SQLITE_OK;

        if (all) {
                for (unsigned i = 0; i < record_n_fields(item->info) && rc == SQLITE_OK; i++)
                        rc = statement_bind(statement, (int) i + 1, &item->values[i]);
                return rc;
        }
        FOREACH_ARRAY(field, record->key.fields, record->key.n_fields)
                rc = rc ?: statement_bind(statement, (int) *field + 1, &item->values[*field]);
        return rc;
}

/* 1 or 0: rows changed, or found. -EEXIST for a key that is taken; anything else is the engine's failure. */
static int run_statement(Writer *w, const WriteItem *item, StatementKind kind) {
        const StatementShape shape = {.info = item->info, .kind = kind};
        int version = item->info->record->version_field;
        bool by_key = kind == STATEMENT_DELETE || kind == STATEMENT_EXISTS;
        _cleanup_reset_ sqlite3_stmt *statement = NULL;

        int r = connection_prepare(w->connection, &shape, &statement);
        if (r < 0)
                return r;
        int rc = bind_fields(statement, item, !by_key);
        if (rc == SQLITE_OK && kind == STATEMENT_DELETE && version >= 0)
                rc = statement_bind(statement, version + 1, &item->values[version]);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW)
                return 1;
        if (rc == SQLITE_CONSTRAINT_PRIMARYKEY || rc == SQLITE_CONSTRAINT_UNIQUE)
                return -EEXIST;
        if (rc != SQLITE_DONE)
                return connection_error(w->connection, rc) ?: -EIO;
        return kind != STATEMENT_EXISTS && sqlite3_changes(connection_handle(w->connection)) > 0;
}

/* 0 or an engine's failure; *ret_refused: what the operation is answered. */
static int run_item(Writer *w, const WriteItem *item, int *ret_refused) {
        static const StatementKind kinds[] = {
                [STORE_INSERT] = STATEMENT_INSERT,
                [STORE_UPDATE] = STATEMENT_UPDATE,
                [STORE_DELETE] = STATEMENT_DELETE,
        };

        if (item->info == w->appender.info)
                seq_cache_clear(w->appender.last_seqs);
        int r = run_statement(w, item, kinds[item->verb]);
        if (r == 0) {
                r = run_statement(w, item, STATEMENT_EXISTS);
                if (r < 0)
                        return r;
                *ret_refused = r > 0 ? -ESTALE : -ENOENT;
                return 0;
        }
        *ret_refused = r == -EEXIST ? -EEXIST : 0;
        return r < 0 && r != -EEXIST ? r : 0;
}

static int run_write(Writer *w, Operation *o) {
        bool several = o->write.n > 1;
        int r = several ? connection_exec(w->connection, "SAVEPOINT operation") : 0;

        for (size_t i = 0; i < o->write.n && r >= 0 && o->r == 0; i++) {
                o->write.failed = i;
                r = run_item(w, &o->write.items[i], &o->r);
        }
        if (several && r >= 0 && o->r < 0)
                r = connection_exec(w->connection, "ROLLBACK TO operation");
        if (several && r >= 0)
                r = connection_exec(w->connection, "RELEASE operation");
        return r;
}

static int run_operations(Writer *w, OperationList *batch) {
        Operation *o;

        TAILQ_FOREACH(o, batch, link) {
                int r = o->kind == OPERATION_APPEND ? appender_run(&w->appender, o) : run_write(w, o);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int commit(Writer *w) {
        uint64_t begin = boottime_usec();

        int r = connection_commit(w->connection);
        if (r >= 0)
                store_count_commit(w->store, boottime_usec() - begin);
        return r;
}

/* SQLite does not log what fails in a commit. A full disk is for the role to tell, once. */
static void log_failure(const Writer *w, int error) {
        sqlite3 *db = connection_handle(w->connection);

        if (error != -ENOSPC)
                log_peer((.error_number = -error), LOG_ERR, "Failed to commit to the store: %s (%d)",
                        sqlite3_errmsg(db), sqlite3_extended_errcode(db));
}

/* Nothing that was found out inside the transaction counts. */
static void roll_back(Writer *w, OperationList *batch, int error) {
        Operation *o;

        log_failure(w, error);
        connection_rollback(w->connection);
        if (w->appender.last_seqs)
                seq_cache_clear(w->appender.last_seqs);
        TAILQ_FOREACH(o, batch, link) {
                o->r = error;
                if (o->kind == OPERATION_APPEND)
                        o->append.last_seq = 0;
                else
                        o->write.failed = 0;
        }
}

static void run_batch(Writer *w, OperationList *batch) {
        int r = connection_begin(w->connection);
        if (r >= 0)
                r = run_operations(w, batch);
        if (r >= 0)
                r = commit(w);
        if (r < 0)
                roll_back(w, batch, r);
}

static void care_for_log(Writer *w) {
        unsigned n_copied;

        checkpointer_notify(w->checkpointer, w->log_pages);
        if (!checkpointer_wants_finish(w->checkpointer))
                return;
        busy_begin(&w->busy);
        (void) checkpoint_passive(w->connection, &n_copied); /* the checkpointer asks again */
        busy_end(&w->busy);
}

static void *writer_main(void *userdata) {
        Writer *w = userdata;
        OperationList batch = TAILQ_HEAD_INITIALIZER(batch);

        while (operation_queue_pop(&w->queue, &batch, w->batch_operations) > 0) {
                busy_begin(&w->busy);
                run_batch(w, &batch);
                busy_end(&w->busy);
                store_finish(w->store, &batch);
                care_for_log(w);
        }
        return NULL;
}

static int on_commit(void *userdata, _unused_ sqlite3 *db, _unused_ const char *name, int n_pages) {
        Writer *w = userdata;

        w->log_pages = (unsigned) n_pages;
        return SQLITE_OK;
}

int writer_start(Writer **ret, Store *store, const StoreConfig *config, Connection *connection,
        Checkpointer *checkpointer) {
        Writer *w = new0(Writer, 1);
        if (!w) {
                connection_close(connection);
                return -ENOMEM;
        }
        w->store = store;
        w->connection = connection;
        w->checkpointer = checkpointer;
        w->batch_operations = config->batch_operations;
        operation_queue_init(&w->queue);
        sqlite3_wal_hook(connection_handle(connection), on_commit, w);
        int r = appender_init(&w->appender, connection, config->records);
        if (r >= 0)
                r = thread_start(&w->thread, "store-writer", writer_main, w);
        w->started = r >= 0;
        if (r < 0)
                writer_stop(w);
        else
                *ret = w;
        return r;
}

Writer *writer_stop(Writer *w) {
        if (!w)
                return NULL;
        operation_queue_stop(&w->queue);
        if (w->started)
                pthread_join(w->thread, NULL);
        operation_queue_done(&w->queue);
        appender_done(&w->appender);
        connection_close(w->connection);
        free(w);
        return NULL;
}

void writer_submit(Writer *w, Operation *operation) {
        operation_queue_push(&w->queue, operation);
}

bool writer_is_alive(Writer *w, uint64_t max_busy_usec) {
        return busy_is_alive(&w->busy, max_busy_usec);
}
