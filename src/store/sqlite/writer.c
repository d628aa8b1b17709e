/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/writer.h"

#include "log/log.h"
#include "store/sqlite/append.h"
#include "store/sqlite/write.h"
#include "util/time-util.h"

struct Writer {
        Store *store;
        SqliteConnection *connection;
        Checkpointer *checkpointer;
        Appender appender;
        WorkQueue *queue;
        unsigned log_pages; /* after the last commit */
};

/* Does it insert or delete entries, other than by an append? */
static bool changes_entries(const Writer *w, const WriteItem *item) {
        return item->info == w->appender.info && item->verb != STORE_PATCH;
}

static int run_write(Writer *w, Operation *o) {
        int r = run_guard(w->connection, &o->write.guard, o->name, &o->r, &o->write.version);
        if (r < 0 || o->r < 0)
                return r;
        bool forget = changes_entries(w, &o->write.guard);
        FOREACH_ARRAY(follower, o->write.extras.followers, o->write.extras.n_followers)
                forget = forget || changes_entries(w, follower);
        if (forget)
                appender_forget(&w->appender);
        return run_extras(w->connection, &o->write.extras, o->partition, o->name);
}

static int run_operation(Writer *w, Operation *o) {
        switch (o->kind) {
        case OPERATION_WRITE:
                return run_write(w, o);
        case OPERATION_APPEND:
                return appender_run(&w->appender, o);
        case OPERATION_DELETE_ENTRIES:
                return appender_delete(&w->appender, o);
        default:
                assert_se(false);
        }
}

static int run_operations(Writer *w, OperationList *batch) {
        Operation *o;

        TAILQ_FOREACH(o, batch, link) {
                int r = run_operation(w, o);
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
static void forget_outcome(Operation *o) {
        o->r = 0;
        arena_done(&o->arena);
        if (o->kind == OPERATION_APPEND) {
                o->append.last_seq = 0;
                o->append.taken = NULL;
                o->append.n_taken = 0;
        }
}

static void roll_back(Writer *w, OperationList *batch, int error) {
        Operation *o;

        log_failure(w, error);
        connection_rollback(w->connection);
        appender_forget(&w->appender);
        TAILQ_FOREACH(o, batch, link)
                forget_outcome(o);
}

static int try_batch(Writer *w, OperationList *batch) {
        int r = connection_begin(w->connection);
        if (r >= 0)
                r = run_operations(w, batch);
        if (r >= 0)
                r = commit(w);
        if (r < 0)
                roll_back(w, batch, r);
        return r;
}

static void set_result(OperationList *batch, int r) {
        Operation *o;

        TAILQ_FOREACH(o, batch, link)
                o->r = r;
}

/* Each in a transaction of its own, in their order. */
static void run_one_by_one(Writer *w, OperationList *batch) {
        OperationList all = TAILQ_HEAD_INITIALIZER(all), one = TAILQ_HEAD_INITIALIZER(one);

        TAILQ_CONCAT(&all, batch, link);
        while (!TAILQ_EMPTY(&all)) {
                Operation *o = TAILQ_FIRST(&all);
                TAILQ_REMOVE(&all, o, link);
                TAILQ_INSERT_TAIL(&one, o, link);
                int r = try_batch(w, &one);
                if (r < 0)
                        set_result(&one, r);
                TAILQ_CONCAT(batch, &one, link);
        }
}

static void run_batch(Writer *w, OperationList *batch) {
        int r = try_batch(w, batch);
        if (r >= 0)
                return;
        bool alone = !TAILQ_NEXT(TAILQ_FIRST(batch), link);
        if (alone || r == -EINPROGRESS)
                set_result(batch, r);
        else
                run_one_by_one(w, batch);
}

static void tell_checkpointer(Writer *w) {
        unsigned n_copied;

        checkpointer_notify(w->checkpointer, w->log_pages);
        if (checkpointer_wants_finish(w->checkpointer))
                (void) checkpoint_passive(w->connection, &n_copied); /* the checkpointer asks again */
}

/* On the writer's thread. */
static void on_batch(WorkList *items, _unused_ unsigned thread, void *userdata) {
        OperationList batch = TAILQ_HEAD_INITIALIZER(batch);
        Writer *w = userdata;
        WorkItem *item;

        while ((item = work_list_pop(items)))
                TAILQ_INSERT_TAIL(&batch, CONTAINER_OF(item, Operation, work), link);
        run_batch(w, &batch);
        store_finish(w->store, &batch);
        tell_checkpointer(w);
}

static void on_rest(_unused_ unsigned thread, void *userdata) {
        Writer *w = userdata;

        connection_give_back(w->connection);
        appender_give_back(&w->appender);
}

static int on_commit(void *userdata, _unused_ sqlite3 *db, _unused_ const char *name, int n_pages) {
        Writer *w = userdata;

        w->log_pages = (unsigned) n_pages;
        return SQLITE_OK;
}

int writer_start(Writer **ret, Store *store, const StoreConfig *config, SqliteConnection *connection,
        Checkpointer *checkpointer) {
        Writer *w = new0(Writer, 1);
        if (!w) {
                connection_close(connection);
                return -ENOMEM;
        }
        w->store = store;
        w->connection = connection;
        w->checkpointer = checkpointer;
        sqlite3_wal_hook(connection_handle(connection), on_commit, w);
        int r = appender_init(&w->appender, connection, config->records);
        if (r >= 0)
                r = work_queue_start(&w->queue, &(WorkQueueConfig){
                                                        .name = "store-writer",
                                                        .n_threads = 1,
                                                        .max_batch = config->batch_operations,
                                                        .run = on_batch,
                                                        .rest = on_rest,
                                                        .rest_usec = CONNECTION_REST_USEC,
                                                        .userdata = w,
                                                });
        if (r < 0)
                writer_stop(w);
        else
                *ret = w;
        return r;
}

Writer *writer_stop(Writer *w) {
        if (!w)
                return NULL;
        work_queue_stop(w->queue);
        appender_done(&w->appender);
        connection_close(w->connection);
        free(w);
        return NULL;
}

void writer_submit(Writer *w, Operation *operation) {
        work_queue_push(w->queue, &operation->work);
}

bool writer_is_alive(Writer *w, uint64_t max_busy_usec) {
        return work_queue_is_alive(w->queue, max_busy_usec);
}
