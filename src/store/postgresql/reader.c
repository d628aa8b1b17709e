/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/reader.h"

#include "store/postgresql/connection.h"
#include "store/postgresql/read.h"
#include "store/postgresql/result.h"
#include "util/time-util.h"

/* Submissions under way on one connection. More gain nothing, and would wait behind a slow one. */
#define MAX_IN_FLIGHT 8U

typedef struct Job {
        Operation *operation;
        PgRead *read;
        unsigned part; /* whose result comes next */
        int error;
        bool again; /* it failed, and may succeed */
        uint64_t sent_usec;
} Job;

typedef struct Reader {
        PgReaders *readers;
        PgConnection *connection;
        Job jobs[MAX_IN_FLIGHT]; /* a ring */
        unsigned first, n_in_flight;
} Reader;

struct PgReaders {
        Store *store;
        PgStatements *statements;
        PgParameters parameters;
        uint64_t timeout_usec;
        sd_event_source *defer, *timer;
        OperationList queue;
        unsigned n;
        Reader readers[];
};

static Job *nth_job(Reader *reader, unsigned n) {
        return &reader->jobs[(reader->first + n) % MAX_IN_FLIGHT];
}

static void finish(PgReaders *readers, Operation *o, int r) {
        OperationList one = TAILQ_HEAD_INITIALIZER(one);

        o->r = r;
        TAILQ_INSERT_TAIL(&one, o, link);
        store_finish(readers->store, &one);
}

/* --- time --- */

static void set_timer(PgReaders *readers) {
        uint64_t deadline = USEC_INFINITY;

        if (!TAILQ_EMPTY(&readers->queue))
                deadline = TAILQ_FIRST(&readers->queue)->deadline_usec;
        FOREACH_ARRAY(reader, readers->readers, readers->n)
                if (reader->n_in_flight > 0)
                        deadline = MIN(deadline, nth_job(reader, 0)->sent_usec + readers->timeout_usec);
        if (deadline == USEC_INFINITY) {
                (void) sd_event_source_set_enabled(readers->timer, SD_EVENT_OFF);
                return;
        }
        (void) sd_event_source_set_time(readers->timer, deadline);
        (void) sd_event_source_set_enabled(readers->timer, SD_EVENT_ONESHOT);
}

static void drop_if_late(Reader *reader, uint64_t now) {
        if (reader->n_in_flight == 0 || nth_job(reader, 0)->sent_usec + reader->readers->timeout_usec > now)
                return;
        nth_job(reader, 0)->sent_usec = now; /* it is lost in a moment: the timer need not tell again */
        pg_connection_drop(reader->connection, "The store's server did not answer a read in time.");
}

static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        PgReaders *readers = userdata;
        uint64_t now = boottime_usec();
        Operation *o;

        while ((o = TAILQ_FIRST(&readers->queue)) && o->deadline_usec <= now) {
                TAILQ_REMOVE(&readers->queue, o, link);
                finish(readers, o, -ENOTCONN);
        }
        FOREACH_ARRAY(reader, readers->readers, readers->n)
                drop_if_late(reader, now);
        set_timer(readers);
        return 0;
}

/* --- sending --- */

static Reader *find_free_reader(PgReaders *readers) {
        Reader *found = NULL;

        FOREACH_ARRAY(reader, readers->readers, readers->n)
                if (pg_connection_is_ready(reader->connection) && reader->n_in_flight < MAX_IN_FLIGHT &&
                        (!found || reader->n_in_flight < found->n_in_flight))
                        found = reader;
        return found;
}

static int send_parts(Reader *reader, const PgRead *read, const Operation *o) {
        PgParameters *parameters = &reader->readers->parameters;

        for (unsigned part = 0; part < pg_read_n_parts(read); part++)
                pg_connection_prepare(reader->connection, pg_read_statement(read, part));
        for (unsigned part = 0; part < pg_read_n_parts(read); part++) {
                int r = pg_read_parameters(parameters, read, o, part);
                if (r < 0)
                        return r;
                pg_connection_send(reader->connection, pg_read_statement(read, part), parameters);
        }
        pg_connection_sync(reader->connection);
        return 0;
}

static void send_operation(Reader *reader, Operation *o) {
        _cleanup_(pg_read_freep) PgRead *read = NULL;

        int r = pg_read_new(&read, reader->readers->statements, o);
        if (r < 0) {
                finish(reader->readers, o, r);
                return;
        }
        Job *job = nth_job(reader, reader->n_in_flight++);
        *job = (Job){.operation = o, .read = TAKE_PTR(read), .sent_usec = boottime_usec()};
        if (send_parts(reader, job->read, o) < 0)
                pg_connection_drop(reader->connection, "Out of memory for a read from the store.");
        pg_connection_flush(reader->connection);
}

static void send_all(PgReaders *readers) {
        Reader *reader;
        bool sent = false;

        while (!TAILQ_EMPTY(&readers->queue) && (reader = find_free_reader(readers))) {
                Operation *o = TAILQ_FIRST(&readers->queue);
                TAILQ_REMOVE(&readers->queue, o, link);
                send_operation(reader, o);
                sent = true;
        }
        if (sent)
                set_timer(readers);
}

static int on_defer(_unused_ sd_event_source *source, void *userdata) {
        send_all(userdata);
        return 0;
}

/* --- answers --- */

static void take_result(Job *job, const PGresult *result) {
        ExecStatusType status = PQresultStatus(result);
        PgFailure failure = PG_FAILURE_RETRY;

        if (job->error < 0)
                return;
        if (status == PGRES_TUPLES_OK) {
                job->error = pg_read_result(job->read, job->operation, job->part++, result);
                return;
        }
        job->error = status == PGRES_PIPELINE_ABORTED ? -EIO : pg_result_error(result, &failure);
        job->again = failure == PG_FAILURE_RETRY;
}

/* Of the first job: takes it off the ring. */
static void end_job(Reader *reader) {
        Job job = *nth_job(reader, 0);

        reader->first = (reader->first + 1) % MAX_IN_FLIGHT;
        reader->n_in_flight--;
        pg_read_free(job.read);
        if (job.again && job.operation->deadline_usec > boottime_usec())
                TAILQ_INSERT_HEAD(&reader->readers->queue, job.operation, link);
        else
                finish(reader->readers, job.operation, job.error);
}

static void on_result(const PGresult *result, void *userdata) {
        Reader *reader = userdata;

        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
                end_job(reader);
                send_all(reader->readers);
                set_timer(reader->readers);
        } else
                take_result(nth_job(reader, 0), result);
}

static void on_ready(void *userdata) {
        const Reader *reader = userdata;
        send_all(reader->readers);
}

/* Reads can be sent again: those that were under way come first, in their order. */
static void on_lost(void *userdata) {
        Reader *reader = userdata;
        PgReaders *readers = reader->readers;

        while (reader->n_in_flight > 0) {
                Job *job = nth_job(reader, --reader->n_in_flight);
                pg_read_free(job->read);
                TAILQ_INSERT_HEAD(&readers->queue, job->operation, link);
        }
        set_timer(readers);
        send_all(readers);
}

/* --- */

static const PgOwner owner = {.ready = on_ready, .result = on_result, .lost = on_lost};

static int add_sources(PgReaders *readers, sd_event *event) {
        int r = sd_event_add_defer(event, &readers->defer, on_defer, readers);
        if (r >= 0)
                r = sd_event_source_set_enabled(readers->defer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time(
                        event, &readers->timer, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_timer, readers);
        if (r >= 0)
                r = sd_event_source_set_enabled(readers->timer, SD_EVENT_OFF);
        return r;
}

int pg_readers_new(PgReaders **ret, Store *store, sd_event *event, const StoreConfig *config,
        const PgTarget *target, PgStatements *statements) {
        _cleanup_(pg_readers_freep) PgReaders *readers =
                calloc(1, sizeof(PgReaders) + config->n_readers * sizeof(Reader));
        if (!readers)
                return -ENOMEM;
        readers->store = store;
        readers->statements = statements;
        readers->timeout_usec = config->timeout_usec;
        TAILQ_INIT(&readers->queue);
        int r = add_sources(readers, event);
        for (; r >= 0 && readers->n < config->n_readers; readers->n++) {
                Reader *reader = &readers->readers[readers->n];
                reader->readers = readers;
                r = pg_connection_new(
                        &reader->connection, event, target, config->timeout_usec, &owner, reader);
        }
        if (r < 0)
                return r;
        FOREACH_ARRAY(reader, readers->readers, readers->n)
                pg_connection_wait_ready(reader->connection, boottime_usec() + config->timeout_usec);
        *ret = TAKE_PTR(readers);
        return 0;
}

static void cancel_jobs(Reader *reader) {
        while (reader->n_in_flight > 0) {
                nth_job(reader, 0)->error = -ECANCELED;
                nth_job(reader, 0)->again = false;
                end_job(reader);
        }
}

PgReaders *pg_readers_free(PgReaders *readers) {
        Operation *o;

        if (!readers)
                return NULL;
        FOREACH_ARRAY(reader, readers->readers, readers->n) {
                pg_connection_free(reader->connection);
                cancel_jobs(reader);
        }
        while ((o = TAILQ_FIRST(&readers->queue))) {
                TAILQ_REMOVE(&readers->queue, o, link);
                finish(readers, o, -ECANCELED);
        }
        sd_event_source_disable_unref(readers->defer);
        sd_event_source_disable_unref(readers->timer);
        pg_parameters_done(&readers->parameters);
        return mfree(readers);
}

void pg_readers_submit(PgReaders *readers, Operation *o) {
        o->deadline_usec = boottime_usec() + readers->timeout_usec;
        TAILQ_INSERT_TAIL(&readers->queue, o, link);
        if (TAILQ_FIRST(&readers->queue) == o)
                set_timer(readers);
        (void) sd_event_source_set_enabled(readers->defer, SD_EVENT_ONESHOT);
}

bool pg_readers_are_connected(const PgReaders *readers) {
        FOREACH_ARRAY(reader, readers->readers, readers->n)
                if (pg_connection_is_ready(reader->connection))
                        return true;
        return false;
}
