/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/reader.h"

struct Readers {
        Store *store;
        WorkQueue *queue;
        unsigned n_readers;
        SqliteConnection *connections[]; /* one a thread */
};

static int prepare_read(SqliteConnection *connection, const ReadItem *item, sqlite3_stmt **ret) {
        const StatementShape shape = {
                .info = item->info,
                .index = item->index,
                .kind = STATEMENT_SELECT,
                .n_prefix = (uint8_t) item->n_prefix,
                .after = item->after,
                .before = item->before,
                .descending = item->descending,
        };
        const unsigned *fields = item->index->fields;
        /* One more than asked for tells whether there is more. */
        const Value limit = {.type = VALUE_INTEGER, .integer = (int64_t) item->limit + 1};
        unsigned n_from = item->n_prefix + item->after;

        int r = connection_prepare(connection, &shape, ret);
        if (r < 0)
                return r;
        int rc = statement_bind(*ret, sql_parameter_limit(item->info), &limit);
        for (unsigned i = 0; i < n_from && rc == SQLITE_OK; i++)
                rc = statement_bind(*ret, (int) fields[i] + 1, &item->from[fields[i]]);
        if (rc == SQLITE_OK && item->before)
                rc = statement_bind(
                        *ret, sql_parameter_before(item->info), &item->to[fields[item->n_prefix]]);
        return connection_error(connection, rc);
}

/* The row the statement stands at, and how many bytes it has. */
static size_t read_values(sqlite3_stmt *statement, Value *values, size_t n) {
        size_t size = 0;

        for (size_t i = 0; i < n; i++) {
                values[i] = statement_column(statement, (int) i);
                size += sizeof(int64_t) + values[i].size;
        }
        return size;
}

/* Makes room for one more record. The arena frees nothing, so the array doubles. */
static int grow_rows(Arena *arena, StoreRows *rows, size_t *allocated) {
        if (rows->n < *allocated)
                return 0;
        size_t n = *allocated > 0 ? *allocated * 2 : 1;
        ProtobufCMessage **records = arena_new(arena, ProtobufCMessage *, n);
        if (!records)
                return -ENOMEM;
        if (rows->n > 0)
                memcpy(records, rows->records, rows->n * sizeof(*records));
        rows->records = records;
        *allocated = n;
        return 0;
}

static int read_rows(SqliteConnection *connection, sqlite3_stmt *statement, const ReadItem *item,
        Arena *arena, StoreRows *rows) {
        size_t n_fields = record_n_fields(item->info), allocated = 0, size = 0;
        Value *values = arena_new(arena, Value, n_fields);
        int rc;

        if (!values)
                return -ENOMEM;
        while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
                size += read_values(statement, values, n_fields);
                /* One record always, so that who reads on gets on. */
                if (rows->n == item->limit || (rows->n > 0 && size > item->max_bytes)) {
                        rows->more = true;
                        return 0;
                }
                int r = grow_rows(arena, rows, &allocated);
                if (r >= 0)
                        r = record_from_values(item->info, values, arena, &rows->records[rows->n]);
                if (r < 0)
                        return r == -ENOMEM ? r : -EIO;
                rows->n++;
        }
        return rc == SQLITE_DONE ? 0 : connection_error(connection, rc);
}

static int run_item(SqliteConnection *connection, const ReadItem *item, Arena *arena, StoreRows *rows) {
        _cleanup_reset_ sqlite3_stmt *statement = NULL;

        int r = prepare_read(connection, item, &statement);
        if (r < 0)
                return r;
        return read_rows(connection, statement, item, arena, rows);
}

static int run_items(SqliteConnection *connection, Operation *o) {
        for (size_t i = 0; i < o->read.n; i++) {
                int r = run_item(connection, &o->read.items[i], &o->arena, &o->read.rows[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Several share one transaction: to begin one costs more than most reads. */
static int run_read(SqliteConnection *connection, Operation *o) {
        if (o->read.n == 1)
                return run_items(connection, o);
        int r = connection_begin(connection);
        if (r >= 0)
                r = run_items(connection, o);
        connection_rollback(connection); /* as good as a commit where nothing was written */
        return r;
}

/* On a reader's thread. */
static void on_batch(WorkList *items, unsigned thread, void *userdata) {
        OperationList done = TAILQ_HEAD_INITIALIZER(done);
        Readers *readers = userdata;
        WorkItem *item;

        while ((item = work_list_pop(items))) {
                Operation *operation = CONTAINER_OF(item, Operation, work);
                operation->r = run_read(readers->connections[thread], operation);
                TAILQ_INSERT_TAIL(&done, operation, link);
        }
        store_finish(readers->store, &done);
}

static void on_rest(unsigned thread, void *userdata) {
        Readers *readers = userdata;

        connection_give_back(readers->connections[thread]);
}

static int open_connections(Readers *readers, const char *path) {
        FOREACH_ARRAY(connection, readers->connections, readers->n_readers) {
                int r = connection_open(connection, path, CONNECTION_READER);
                if (r < 0)
                        return r;
        }
        return 0;
}

int readers_start(Readers **ret, Store *store, const StoreConfig *config, const char *path) {
        Readers *readers = calloc(1, sizeof(Readers) + config->n_readers * sizeof(SqliteConnection *));
        if (!readers)
                return -ENOMEM;
        readers->store = store;
        readers->n_readers = config->n_readers;
        int r = open_connections(readers, path);
        if (r >= 0)
                r = work_queue_start(&readers->queue, &(WorkQueueConfig){
                                                              .name = "store-reader",
                                                              .n_threads = config->n_readers,
                                                              .max_batch = 1,
                                                              .run = on_batch,
                                                              .rest = on_rest,
                                                              .rest_usec = CONNECTION_REST_USEC,
                                                              .userdata = readers,
                                                      });
        if (r < 0)
                readers_stop(readers);
        else
                *ret = readers;
        return r;
}

static void cancel_queued(Readers *readers) {
        WorkList items = TAILQ_HEAD_INITIALIZER(items);
        OperationList done = TAILQ_HEAD_INITIALIZER(done);
        WorkItem *item;

        work_queue_drain(readers->queue, &items);
        while ((item = work_list_pop(&items))) {
                Operation *operation = CONTAINER_OF(item, Operation, work);
                operation->r = -ECANCELED;
                TAILQ_INSERT_TAIL(&done, operation, link);
        }
        store_finish(readers->store, &done);
}

Readers *readers_stop(Readers *readers) {
        if (!readers)
                return NULL;
        if (readers->queue)
                cancel_queued(readers);
        work_queue_stop(readers->queue);
        FOREACH_ARRAY(connection, readers->connections, readers->n_readers)
                connection_close(*connection);
        free(readers);
        return NULL;
}

void readers_submit(Readers *readers, Operation *operation) {
        work_queue_push(readers->queue, &operation->work);
}

bool readers_are_alive(Readers *readers, uint64_t max_busy_usec) {
        return work_queue_is_alive(readers->queue, max_busy_usec);
}
