/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite-reader.h"

#include "store/operation-queue.h"
#include "store/thread.h"

typedef struct Reader {
        Readers *readers;
        Connection *connection;
        BusyClock busy;
        pthread_t thread;
        bool started;
} Reader;

struct Readers {
        Store *store;
        OperationQueue queue;
        unsigned n_readers;
        Reader readers[];
};

static int prepare_read(Reader *reader, const ReadItem *item, sqlite3_stmt **ret) {
        const StatementShape shape = {
                .info = item->info,
                .index = item->index,
                .kind = STATEMENT_SELECT,
                .n_prefix = item->n_prefix,
                .exclude_field = item->exclude_field,
                .after = item->after,
                .before = item->before,
                .descending = item->descending,
                .count_only = item->count_only,
        };
        const unsigned *fields = item->index->fields;
        /* One more than asked for tells whether there is more. */
        const Value limit = {.type = VALUE_INTEGER, .integer = (int64_t) item->limit + 1};
        unsigned n_from = item->n_prefix + item->after;

        int r = connection_prepare(reader->connection, &shape, ret);
        if (r < 0)
                return r;
        int rc = statement_bind(*ret, sql_parameter_limit(item->info), &limit);
        for (unsigned i = 0; i < n_from && rc == SQLITE_OK; i++)
                rc = statement_bind(*ret, (int) fields[i] + 1, &item->from[fields[i]]);
        if (rc == SQLITE_OK && item->before)
                rc = statement_bind(
                        *ret, sql_parameter_before(item->info), &item->to[fields[item->n_prefix]]);
        if (rc == SQLITE_OK && item->exclude_field >= 0)
                rc = statement_bind(*ret, item->exclude_field + 1, &item->from[item->exclude_field]);
        return connection_error(reader->connection, rc);
}

static int read_count(Reader *reader, sqlite3_stmt *statement, const ReadItem *item, StoreRows *rows) {
        int rc = sqlite3_step(statement);
        if (rc != SQLITE_ROW)
                return connection_error(reader->connection, rc) ?: -EIO;
        size_t n = (size_t) sqlite3_column_int64(statement, 0);
        *rows = (StoreRows){.n = MIN(n, item->limit), .more = n > item->limit};
        return 0;
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

static int read_rows(
        Reader *reader, sqlite3_stmt *statement, const ReadItem *item, Arena *arena, StoreRows *rows) {
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
        return rc == SQLITE_DONE ? 0 : connection_error(reader->connection, rc);
}

static int run_item(Reader *reader, const ReadItem *item, Arena *arena, StoreRows *rows) {
        _cleanup_reset_ sqlite3_stmt *statement = NULL;

        int r = prepare_read(reader, item, &statement);
        if (r < 0)
                return r;
        return item->count_only ? read_count(reader, statement, item, rows)
                                : read_rows(reader, statement, item, arena, rows);
}

static int run_items(Reader *reader, Operation *o) {
        for (size_t i = 0; i < o->read.n; i++) {
                int r = run_item(reader, &o->read.items[i], &o->read.arena, &o->read.rows[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* A single statement is a snapshot by itself. */
static int run_read(Reader *reader, Operation *o) {
        if (o->read.n == 1)
                return run_items(reader, o);
        int r = connection_begin(reader->connection);
        if (r >= 0)
                r = run_items(reader, o);
        connection_rollback(reader->connection); /* as good as a commit where nothing was written */
        return r;
}

static void *reader_main(void *userdata) {
        Reader *reader = userdata;
        OperationList list = TAILQ_HEAD_INITIALIZER(list);

        while (operation_queue_pop(&reader->readers->queue, &list, 1) > 0) {
                Operation *operation = TAILQ_FIRST(&list);
                busy_begin(&reader->busy);
                operation->r = run_read(reader, operation);
                busy_end(&reader->busy);
                store_finish(reader->readers->store, &list);
        }
        return NULL;
}

static int reader_start(Reader *reader, const char *path) {
        int r = connection_open(&reader->connection, path, CONNECTION_READER);
        if (r >= 0)
                r = thread_start(&reader->thread, "store-reader", reader_main, reader);
        reader->started = r >= 0;
        return r;
}

int readers_start(Readers **ret, Store *store, const StoreConfig *config) {
        Readers *readers = calloc(1, sizeof(Readers) + config->n_readers * sizeof(Reader));
        if (!readers)
                return -ENOMEM;
        readers->store = store;
        readers->n_readers = config->n_readers;
        operation_queue_init(&readers->queue);
        FOREACH_ARRAY(reader, readers->readers, readers->n_readers) {
                reader->readers = readers;
                int r = reader_start(reader, config->path);
                if (r < 0) {
                        readers_stop(readers);
                        return r;
                }
        }
        *ret = readers;
        return 0;
}

static void cancel_queued(Readers *readers) {
        OperationList list = TAILQ_HEAD_INITIALIZER(list);
        Operation *operation;

        operation_queue_drain(&readers->queue, &list);
        TAILQ_FOREACH(operation, &list, link)
                operation->r = -ECANCELED;
        store_finish(readers->store, &list);
}

Readers *readers_stop(Readers *readers) {
        if (!readers)
                return NULL;
        cancel_queued(readers);
        operation_queue_stop(&readers->queue);
        FOREACH_ARRAY(reader, readers->readers, readers->n_readers) {
                if (reader->started)
                        pthread_join(reader->thread, NULL);
                connection_close(reader->connection);
        }
        operation_queue_done(&readers->queue);
        free(readers);
        return NULL;
}

void readers_submit(Readers *readers, Operation *operation) {
        operation_queue_push(&readers->queue, operation);
}

bool readers_are_alive(Readers *readers, uint64_t max_busy_usec) {
        FOREACH_ARRAY(reader, readers->readers, readers->n_readers)
                if (!busy_is_alive(&reader->busy, max_busy_usec))
                        return false;
        return true;
}
