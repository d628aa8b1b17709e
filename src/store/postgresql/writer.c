/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/writer.h"

#include "store/postgresql/connection.h"
#include "store/postgresql/result.h"
#include "store/postgresql/write.h"
#include "util/time-util.h"

#define MAX_IN_FLIGHT 2U
/* How often a write by itself is tried when it conflicts with other transactions. */
#define MAX_TRIES 10U

typedef enum BatchState {
        BATCH_BEGIN, /* what is answered next */
        BATCH_OPERATIONS,
        BATCH_COMMIT,
        BATCH_SYNC,
        BATCH_FAILED, /* the rest of it is skipped by the server, up to the sync */
} BatchState;

typedef struct Batch {
        OperationList operations;
        unsigned n;
        BatchState state;
        Operation *next; /* whose part is answered next */
        unsigned part;
        PgFailure failure; /* of BATCH_FAILED */
        int error;
        bool is_uncertain; /* how its COMMIT ended */
        uint64_t sent_usec;
} Batch;

struct PgWriter {
        Store *store;
        PgConnection *connection;
        PgStatements *statements;
        PgParameters parameters;
        const PgStatement *begin, *commit;
        unsigned batch_operations;
        uint64_t timeout_usec;
        sd_event_source *defer; /* sends when the loop has handled what it found */
        sd_event_source *timer;

        OperationList queue;
        Batch batches[MAX_IN_FLIGHT]; /* a ring */
        unsigned first, n_in_flight;
        OperationList failed; /* in flight, and to be carried out again */
        unsigned n_failed_first; /* of the first of the batches that failed */
        PgFailure failure; /* of that one */
        int error;
        unsigned n_single; /* so many at the queue's head are carried out one by one */
        unsigned n_tries; /* of the first of these */
};

static void list_append(OperationList *to, OperationList *from) {
        TAILQ_CONCAT(to, from, link);
}

static void list_prepend(OperationList *to, OperationList *from) {
        TAILQ_CONCAT(from, to, link);
        TAILQ_CONCAT(to, from, link);
}

static void finish_all(PgWriter *w, OperationList *list, int error) {
        Operation *o;

        TAILQ_FOREACH(o, list, link)
                o->r = error;
        store_finish(w->store, list);
}

static Batch *nth_batch(PgWriter *w, unsigned n) {
        return &w->batches[(w->first + n) % MAX_IN_FLIGHT];
}

/* --- time --- */

/* The earliest moment at which something is due, or USEC_INFINITY. */
static uint64_t next_deadline(PgWriter *w) {
        uint64_t deadline = USEC_INFINITY;

        if (w->n_in_flight > 0)
                deadline = nth_batch(w, 0)->sent_usec + w->timeout_usec;
        else if (!TAILQ_EMPTY(&w->queue)) /* those behind what is under way complete after it */
                deadline = TAILQ_FIRST(&w->queue)->deadline_usec;
        return deadline;
}

static void set_timer(PgWriter *w) {
        uint64_t deadline = next_deadline(w);

        if (deadline == USEC_INFINITY) {
                (void) sd_event_source_set_enabled(w->timer, SD_EVENT_OFF);
                return;
        }
        (void) sd_event_source_set_time(w->timer, deadline);
        (void) sd_event_source_set_enabled(w->timer, SD_EVENT_ONESHOT);
}

static void finish_late(PgWriter *w, uint64_t now) {
        OperationList late = TAILQ_HEAD_INITIALIZER(late);
        Operation *o;

        while ((o = TAILQ_FIRST(&w->queue)) && o->deadline_usec <= now) {
                TAILQ_REMOVE(&w->queue, o, link);
                TAILQ_INSERT_TAIL(&late, o, link);
                if (w->n_single > 0) {
                        w->n_single--;
                        w->n_tries = 0;
                }
        }
        finish_all(w, &late, -ENOTCONN);
}

static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        PgWriter *w = userdata;
        uint64_t now = boottime_usec();

        if (w->n_in_flight > 0 && nth_batch(w, 0)->sent_usec + w->timeout_usec <= now) {
                pg_connection_drop(w->connection, "The store's server did not answer a write in time.");
                return 0;
        }
        if (w->n_in_flight == 0)
                finish_late(w, now);
        set_timer(w);
        return 0;
}

/* --- sending --- */

static int prepare_operation(PgWriter *w, const Operation *o) {
        const PgStatement *statement;

        for (unsigned part = 0; part < pg_write_n_parts(o); part++) {
                int r = pg_write_statement(w->statements, o, part, &statement);
                if (r < 0)
                        return r;
                pg_connection_prepare(w->connection, statement);
        }
        return 0;
}

static int send_operation(PgWriter *w, const Operation *o) {
        const PgStatement *statement;

        for (unsigned part = 0; part < pg_write_n_parts(o); part++) {
                int r = pg_write_statement(w->statements, o, part, &statement);
                if (r >= 0)
                        r = pg_write_parameters(&w->parameters, o, part, statement);
                if (r < 0)
                        return r;
                pg_connection_send(w->connection, statement, &w->parameters);
        }
        return 0;
}

/* How much work an operation is, in writes of one record. What counts is the time that a transaction takes: its
 * writes are answered together, while the next one is carried out. */
static size_t operation_weight(const Operation *o) {
        switch (o->kind) {
        case OPERATION_APPEND:
                return o->append.n + o->append.extras.n_followers + o->append.extras.n_intents;
        case OPERATION_WRITE:
                return 1 + o->write.extras.n_followers + o->write.extras.n_intents;
        default:
                return 1;
        }
}

/* Moves what the next transaction holds; those whose statements cannot even be made are done with. */
static void fill_batch(PgWriter *w, Batch *batch) {
        OperationList refused = TAILQ_HEAD_INITIALIZER(refused);
        size_t weight = 0, max = w->n_single > 0 ? 1 : w->batch_operations;
        Operation *o;

        while (weight < max && (o = TAILQ_FIRST(&w->queue))) {
                int r = prepare_operation(w, o);
                TAILQ_REMOVE(&w->queue, o, link);
                TAILQ_INSERT_TAIL(r < 0 ? &refused : &batch->operations, o, link);
                o->r = r < 0 ? r : 0;
                batch->n += r >= 0;
                weight += operation_weight(o);
        }
        store_finish(w->store, &refused);
}

static void send_batch(PgWriter *w) {
        static const PgParameters none;
        Batch *batch = nth_batch(w, w->n_in_flight);
        Operation *o;

        *batch = (Batch){.state = BATCH_BEGIN, .sent_usec = boottime_usec()};
        TAILQ_INIT(&batch->operations);
        fill_batch(w, batch);
        if (batch->n == 0)
                return;
        batch->next = TAILQ_FIRST(&batch->operations);
        w->n_in_flight++;
        pg_connection_prepare(w->connection, w->begin);
        pg_connection_prepare(w->connection, w->commit);
        pg_connection_send(w->connection, w->begin, &none);
        TAILQ_FOREACH(o, &batch->operations, link)
                if (send_operation(w, o) < 0) {
                        /* Without its COMMIT the server rolls it back. */
                        pg_connection_drop(w->connection, "Out of memory for a write to the store.");
                        return;
                }
        pg_connection_send(w->connection, w->commit, &none);
        pg_connection_sync(w->connection);
}

static bool may_send(const PgWriter *w) {
        if (TAILQ_EMPTY(&w->queue) || !pg_connection_is_ready(w->connection) || !TAILQ_EMPTY(&w->failed))
                return false;
        return w->n_in_flight < (w->n_single > 0 ? 1 : MAX_IN_FLIGHT);
}

static void send_all(PgWriter *w) {
        if (!may_send(w))
                return;
        while (may_send(w))
                send_batch(w);
        pg_connection_flush(w->connection);
        set_timer(w);
}

static int on_defer(_unused_ sd_event_source *source, void *userdata) {
        send_all(userdata);
        return 0;
}

/* --- answers --- */

static void fail_batch(Batch *batch, PgFailure failure, int error) {
        batch->is_uncertain = batch->state == BATCH_COMMIT;
        batch->state = BATCH_FAILED;
        batch->failure = failure;
        batch->error = error;
}

static void take_operation_result(Batch *batch, const PGresult *result) {
        Operation *o = batch->next;

        int r = pg_write_result(o, batch->part, result);
        if (r < 0)
                o->r = -EINPROGRESS; /* it may be done: the answer makes no sense */
        if (++batch->part < pg_write_n_parts(o))
                return;
        batch->part = 0;
        batch->next = TAILQ_NEXT(o, link);
        if (!batch->next)
                batch->state = BATCH_COMMIT;
}

static void take_result(PgWriter *w, Batch *batch, const PGresult *result) {
        ExecStatusType status = PQresultStatus(result);

        if (batch->state == BATCH_FAILED)
                return;
        if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
                PgFailure failure = PG_FAILURE_RETRY;
                int r = status == PGRES_PIPELINE_ABORTED ? -EIO : pg_result_error(result, &failure);
                fail_batch(batch, failure, r);
                return;
        }
        switch (batch->state) {
        case BATCH_BEGIN:
                batch->state = BATCH_OPERATIONS;
                break;
        case BATCH_OPERATIONS:
                take_operation_result(batch, result);
                break;
        case BATCH_COMMIT:
                /* It says that the wait for the standby was given up: here it is committed, there maybe not. */
                batch->is_uncertain = pg_connection_has_warned(w->connection);
                batch->state = BATCH_SYNC;
                break;
        case BATCH_SYNC:
        case BATCH_FAILED:
                break;
        }
}

static void finish_batch(PgWriter *w, Batch *batch) {
        if (batch->is_uncertain) {
                finish_all(w, &batch->operations, -EINPROGRESS);
                return;
        }
        store_count_commit(w->store, boottime_usec() - batch->sent_usec);
        store_finish(w->store, &batch->operations);
}

/* The write by itself was refused: for good, or too often. */
static bool is_final(const PgWriter *w, const Operation *o) {
        if (w->failure == PG_FAILURE_FINAL)
                return true;
        /* An append that another host forestalled finds out why when it is tried again. */
        if (w->error == -EEXIST && o->kind == OPERATION_WRITE)
                return true;
        return w->n_tries >= MAX_TRIES || o->deadline_usec <= boottime_usec();
}

static void finish_first_failed(PgWriter *w) {
        OperationList one = TAILQ_HEAD_INITIALIZER(one);
        Operation *o = TAILQ_FIRST(&w->failed);

        TAILQ_REMOVE(&w->failed, o, link);
        TAILQ_INSERT_TAIL(&one, o, link);
        finish_all(w, &one, w->error);
}

static void retry_single(PgWriter *w) {
        w->n_tries++;
        w->n_single = MAX(w->n_single, 1U);
        if (!is_final(w, TAILQ_FIRST(&w->failed)))
                return;
        finish_first_failed(w);
        w->n_single--;
        w->n_tries = 0;
}

/* All answers are here: what failed goes back to the head of the queue. */
static void retry_failed(PgWriter *w) {
        if (pg_connection_has_failed_transaction(w->connection))
                pg_connection_roll_back(w->connection);
        if (w->failure == PG_FAILURE_READ_ONLY)
                pg_connection_drop(
                        w->connection, "The store's server takes no writes; looking for one that does.");
        else if (w->n_failed_first == 1)
                retry_single(w);
        else
                w->n_single = w->n_failed_first;
        list_prepend(&w->queue, &w->failed);
}

static void end_batch(PgWriter *w, Batch *batch) {
        w->first = (w->first + 1) % MAX_IN_FLIGHT;
        w->n_in_flight--;
        if (batch->state == BATCH_SYNC) {
                if (w->n_single > 0) {
                        w->n_single--;
                        w->n_tries = 0;
                }
                finish_batch(w, batch);
        } else {
                if (TAILQ_EMPTY(&w->failed)) {
                        w->n_failed_first = batch->n;
                        w->failure = batch->failure;
                        w->error = batch->error;
                }
                list_append(&w->failed, &batch->operations);
        }
        if (!TAILQ_EMPTY(&w->failed) && w->n_in_flight == 0)
                retry_failed(w);
        set_timer(w);
}

static void on_result(const PGresult *result, void *userdata) {
        PgWriter *w = userdata;
        Batch *batch = nth_batch(w, 0);

        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
                end_batch(w, batch);
                send_all(w);
        } else
                take_result(w, batch, result);
}

static void on_ready(void *userdata) {
        send_all(userdata);
}

/* What was under way may be done, or not; but a transaction that failed before its COMMIT is not, nor is what was
 * sent behind it. */
static void on_lost(void *userdata) {
        PgWriter *w = userdata;

        for (; w->n_in_flight > 0; w->n_in_flight--, w->first = (w->first + 1) % MAX_IN_FLIGHT) {
                Batch *batch = nth_batch(w, 0);
                bool has_failed = batch->state == BATCH_FAILED && !batch->is_uncertain;
                if (has_failed || !TAILQ_EMPTY(&w->failed))
                        list_append(&w->failed, &batch->operations);
                else
                        finish_all(w, &batch->operations, -EINPROGRESS);
        }
        list_prepend(&w->queue, &w->failed);
        w->n_single = w->n_tries = 0;
        set_timer(w);
}

/* --- */

static const PgOwner owner = {.ready = on_ready, .result = on_result, .lost = on_lost};

int pg_writer_new(PgWriter **ret, Store *store, sd_event *event, const StoreConfig *config,
        const PgTarget *target, PgStatements *statements) {
        _cleanup_(pg_writer_freep) PgWriter *w = new0(PgWriter, 1);
        if (!w)
                return -ENOMEM;
        w->store = store;
        w->statements = statements;
        w->batch_operations = config->batch_operations;
        w->timeout_usec = config->timeout_usec;
        TAILQ_INIT(&w->queue);
        TAILQ_INIT(&w->failed);
        int r = pg_statements_get(statements, &(PgShape){.kind = PG_BEGIN}, &w->begin);
        if (r >= 0)
                r = pg_statements_get(statements, &(PgShape){.kind = PG_COMMIT}, &w->commit);
        if (r >= 0)
                r = sd_event_add_defer(event, &w->defer, on_defer, w);
        if (r >= 0)
                r = sd_event_source_set_enabled(w->defer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time(event, &w->timer, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_timer, w);
        if (r >= 0)
                r = sd_event_source_set_enabled(w->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = pg_connection_new(&w->connection, event, target, config->timeout_usec, &owner, w);
        if (r < 0)
                return r;
        pg_connection_wait_ready(w->connection, boottime_usec() + config->timeout_usec);
        *ret = TAKE_PTR(w);
        return 0;
}

static void run_to_the_end(PgWriter *w) {
        uint64_t deadline = boottime_usec() + w->timeout_usec;

        while (!TAILQ_EMPTY(&w->queue) || w->n_in_flight > 0) {
                send_all(w);
                if (pg_connection_run(w->connection, deadline) < 0)
                        break;
        }
}

PgWriter *pg_writer_free(PgWriter *w) {
        if (!w)
                return NULL;
        if (w->connection) {
                run_to_the_end(w);
                w->connection = pg_connection_free(w->connection);
                on_lost(w);
                finish_all(w, &w->queue, -ENOTCONN);
        }
        sd_event_source_disable_unref(w->defer);
        sd_event_source_disable_unref(w->timer);
        pg_parameters_done(&w->parameters);
        return mfree(w);
}

void pg_writer_submit(PgWriter *w, Operation *o) {
        o->deadline_usec = boottime_usec() + w->timeout_usec;
        TAILQ_INSERT_TAIL(&w->queue, o, link);
        if (TAILQ_FIRST(&w->queue) == o)
                set_timer(w);
        (void) sd_event_source_set_enabled(w->defer, SD_EVENT_ONESHOT);
}

bool pg_writer_is_connected(const PgWriter *w) {
        return pg_connection_is_ready(w->connection);
}
