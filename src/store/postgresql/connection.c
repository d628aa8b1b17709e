/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/connection.h"

#include <poll.h>
#include <stdio.h>

#include "log/log.h"
#include "log/message-ids.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define BACKOFF_MIN_USEC (50 * USEC_PER_MSEC)
#define BACKOFF_MAX_USEC (2 * USEC_PER_SEC)

typedef enum State {
        STATE_WAITING, /* until it is time to connect again */
        STATE_CONNECTING,
        STATE_SETTING_UP,
        STATE_READY,
} State;

/* Whose result comes next. */
typedef enum Expected {
        EXPECT_STATEMENT, /* the owner's */
        EXPECT_SYNC, /* the owner's */
        EXPECT_SETUP,
        EXPECT_PREPARE,
        EXPECT_OWN, /* of ours, and it does not matter */
} Expected;

typedef struct Expectation {
        Expected what;
        unsigned statement; /* of EXPECT_PREPARE */
} Expectation;

struct PgConnection {
        sd_event *event;
        sd_event_source *io, *timer;
        const PgTarget *target;
        const PgOwner *owner;
        void *userdata;
        uint64_t timeout_usec;

        PGconn *conn;
        State state;
        PostgresPollingStatusType wants; /* while connecting */
        bool broken; /* to be lost at the next occasion */
        bool warned;
        bool was_told; /* that there is no connection */
        unsigned n_failures; /* in a row */

        Expectation *expected; /* a ring of n_allocated, a power of two, beginning at `first` */
        unsigned first, n_expected, n_allocated;
        bool *prepared; /* by the statement's id */
        unsigned n_prepared;
};

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata);
static void lose(PgConnection *c);

/* --- what is expected --- */

static bool grow_expected(PgConnection *c) {
        unsigned n = MAX(c->n_allocated * 2, 256U);
        Expectation *expected = new0(Expectation, n);

        if (!expected)
                return false;
        for (unsigned i = 0; i < c->n_expected; i++)
                expected[i] = c->expected[(c->first + i) & (c->n_allocated - 1)];
        free(c->expected);
        c->expected = expected;
        c->n_allocated = n;
        c->first = 0;
        return true;
}

static void set_broken(PgConnection *c) {
        c->broken = true;
        (void) sd_event_source_set_time_relative(c->timer, 0);
        (void) sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

/* Notes what was sent, or that it could not be. */
static void expect(PgConnection *c, int sent, Expected what, unsigned statement) {
        if (sent == 0 || (c->n_expected == c->n_allocated && !grow_expected(c))) {
                set_broken(c);
                return;
        }
        c->expected[(c->first + c->n_expected++) & (c->n_allocated - 1)] =
                (Expectation){.what = what, .statement = statement};
}

/* --- connecting --- */

static uint64_t backoff(const PgConnection *c) {
        uint64_t usec = BACKOFF_MIN_USEC << MIN(c->n_failures, 10U);
        uint32_t dice;

        usec = MIN(usec, BACKOFF_MAX_USEC);
        unique_bytes(&dice, sizeof(dice));
        return usec / 2 + dice % (usec / 2 + 1);
}

static void set_timer(PgConnection *c, uint64_t usec) {
        (void) sd_event_source_set_time_relative(c->timer, usec);
        (void) sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

static void wait_and_connect(PgConnection *c) {
        c->state = STATE_WAITING;
        set_timer(c, backoff(c));
        c->n_failures++;
}

static void close_connection(PgConnection *c) {
        c->io = sd_event_source_disable_unref(c->io); /* before the descriptor is closed */
        PQfinish(c->conn);
        c->conn = NULL;
        c->broken = c->warned = false;
        c->n_expected = 0;
        if (c->n_prepared > 0)
                memset(c->prepared, 0, c->n_prepared * sizeof(bool));
}

static void log_lost(PgConnection *c, const char *what) {
        char line[256] = "";

        if (c->conn)
                pg_error_line(c->conn, line, sizeof(line));
        /* Once until it is back: what follows is the same. */
        if (!c->was_told)
                log_with((.message_id = MESSAGE_ID_STORE_LOST), LOG_WARNING, "%s%s%s", what,
                        isempty(line) ? "" : ": ", line);
        c->was_told = true;
}

static void lose(PgConnection *c) {
        bool was_ready = c->state == STATE_READY;

        log_lost(c, was_ready ? "Lost the connection to the store" : "Failed to connect to the store");
        close_connection(c);
        wait_and_connect(c);
        if (was_ready)
                c->owner->lost(c->userdata);
}

static void on_notice(void *userdata, const PGresult *result) {
        PgConnection *c = userdata;
        const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

        if (!severity || !streq(severity, "WARNING"))
                return;
        c->warned = true;
        log_peer((), LOG_WARNING, "The store's server warns: %s",
                strempty(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)));
}

/* Acknowledged must mean that it is on disk, and on the standby if there is a synchronous one. Plans: the
 * statements are made for the indexes that are there, and what the planner knows of a table that has just been
 * created is wrong. */
static char *make_setup(const PgConnection *c) {
        return format_string(
                "SELECT set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit')"
                " = 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),"
                " set_config('statement_timeout', '%llu', false),"
                " set_config('default_transaction_isolation', 'read committed', false),"
                " set_config('plan_cache_mode', 'force_generic_plan', false),"
                " set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false),"
                " set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false),"
                " set_config('enable_sort', 'off', false), set_config('jit', 'off', false),"
                " set_config('max_parallel_workers_per_gather', '0', false)",
                (unsigned long long) (c->timeout_usec / USEC_PER_MSEC));
}

static void set_up(PgConnection *c) {
        _cleanup_free_ char *sql = make_setup(c);

        c->state = STATE_SETTING_UP;
        if (!sql || PQsetnonblocking(c->conn, 1) < 0 || !PQenterPipelineMode(c->conn) ||
                sd_event_add_io(c->event, &c->io, PQsocket(c->conn), EPOLLIN, on_io, c) < 0) {
                set_broken(c);
                return;
        }
        PQsetNoticeReceiver(c->conn, on_notice, c);
        PQsetErrorVerbosity(c->conn, PQERRORS_DEFAULT);
        expect(c, PQsendQueryParams(c->conn, sql, 0, NULL, NULL, NULL, NULL, 0), EXPECT_SETUP, 0);
        expect(c, PQpipelineSync(c->conn), EXPECT_OWN, 0);
        pg_connection_flush(c);
}

static void poll_connect(PgConnection *c) {
        c->io = sd_event_source_disable_unref(c->io); /* with several addresses the descriptor changes */
        c->wants = PQconnectPoll(c->conn);
        if (c->wants == PGRES_POLLING_OK)
                set_up(c);
        else if (c->wants == PGRES_POLLING_FAILED ||
                 sd_event_add_io(c->event, &c->io, PQsocket(c->conn),
                         c->wants == PGRES_POLLING_READING ? EPOLLIN : EPOLLOUT, on_io, c) < 0)
                lose(c);
}

static void start_connecting(PgConnection *c) {
        c->state = STATE_CONNECTING;
        c->wants = PGRES_POLLING_WRITING;
        c->conn = pg_target_connect(c->target);
        if (!c->conn || PQstatus(c->conn) == CONNECTION_BAD ||
                sd_event_add_io(c->event, &c->io, PQsocket(c->conn), EPOLLOUT, on_io, c) < 0) {
                lose(c);
                return;
        }
        set_timer(c, c->timeout_usec); /* libpq's connect_timeout is not for PQconnectPoll() */
}

static void become_ready(PgConnection *c) {
        c->state = STATE_READY;
        c->n_failures = 0;
        (void) sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
        if (c->was_told)
                log_with((.message_id = MESSAGE_ID_STORE_CONNECTED), LOG_NOTICE,
                        "Connected to the store again.");
        c->was_told = false;
        c->owner->ready(c->userdata);
}

/* --- results --- */

static void note_prepared(PgConnection *c, unsigned statement, const PGresult *result) {
        const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

        c->prepared[statement] = PQresultStatus(result) == PGRES_COMMAND_OK;
        /* In a failed transaction (25P02) nothing can be prepared: it is tried again after its end. When the
         * server ends (class 57), it says so once more. */
        if (!c->prepared[statement] && code && !streq(code, "25P02") && !startswith(code, "57"))
                log_peer((), LOG_ERR, "The store's server refuses a statement: %s (%s)",
                        strempty(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)), code);
}

static void handle_result(PgConnection *c, const PGresult *result) {
        Expectation expected = c->expected[c->first];
        ExecStatusType status = PQresultStatus(result);

        c->first = (c->first + 1) & (c->n_allocated - 1);
        c->n_expected--;
        switch (expected.what) {
        case EXPECT_STATEMENT:
        case EXPECT_SYNC:
                if ((status == PGRES_PIPELINE_SYNC) != (expected.what == EXPECT_SYNC)) {
                        set_broken(c);
                        return;
                }
                c->owner->result(result, c->userdata);
                break;
        case EXPECT_SETUP:
                if (status == PGRES_TUPLES_OK)
                        become_ready(c);
                else
                        set_broken(c);
                break;
        case EXPECT_PREPARE:
                note_prepared(c, expected.statement, result);
                break;
        case EXPECT_OWN:
                break;
        }
        c->warned = false;
}

/* Each statement answers one result and then NULL, a sync one result. */
static void handle_results(PgConnection *c) {
        unsigned n_nulls = 0;

        while (c->n_expected > 0 && !c->broken && !PQisBusy(c->conn)) {
                PGresult *result = PQgetResult(c->conn);
                if (!result) {
                        if (++n_nulls > 1) /* there is nothing */
                                return;
                        continue;
                }
                n_nulls = 0;
                /* What the library itself says of a lost connection answers nothing. */
                bool is_answer =
                        PQstatus(c->conn) == CONNECTION_OK || PQresultStatus(result) != PGRES_FATAL_ERROR;
                if (is_answer)
                        handle_result(c, result);
                PQclear(result);
                if (!is_answer)
                        return;
        }
}

static void process(PgConnection *c) {
        if (c->state == STATE_CONNECTING) {
                poll_connect(c);
                return;
        }
        bool is_open = PQconsumeInput(c->conn);
        handle_results(c);
        if (!is_open || c->broken || PQstatus(c->conn) != CONNECTION_OK)
                lose(c);
        else
                pg_connection_flush(c);
}

static int on_io(
        _unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        process(userdata);
        return 0;
}

static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        PgConnection *c = userdata;

        if (c->state == STATE_WAITING)
                start_connecting(c);
        else if (c->broken || c->state != STATE_READY)
                lose(c);
        return 0;
}

/* --- */

int pg_connection_new(PgConnection **ret, sd_event *event, const PgTarget *target, uint64_t timeout_usec,
        const PgOwner *owner, void *userdata) {
        _cleanup_(pg_connection_freep) PgConnection *c = new0(PgConnection, 1);

        if (!c)
                return -ENOMEM;
        c->event = sd_event_ref(event);
        c->target = target;
        c->timeout_usec = timeout_usec;
        c->owner = owner;
        c->userdata = userdata;
        int r = sd_event_add_time_relative(event, &c->timer, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_timer, c);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

PgConnection *pg_connection_free(PgConnection *c) {
        if (!c)
                return NULL;
        close_connection(c);
        sd_event_source_disable_unref(c->timer);
        sd_event_unref(c->event);
        free(c->expected);
        free(c->prepared);
        return mfree(c);
}

bool pg_connection_is_ready(const PgConnection *c) {
        return c->state == STATE_READY && !c->broken;
}

static bool has_room_for_statement(PgConnection *c, unsigned id) {
        if (id < c->n_prepared)
                return true;
        unsigned n = MAX(c->n_prepared * 2, id + 32);
        bool *prepared = realloc(c->prepared, n * sizeof(bool));
        if (!prepared)
                return false;
        memset(prepared + c->n_prepared, 0, (n - c->n_prepared) * sizeof(bool));
        c->prepared = prepared;
        c->n_prepared = n;
        return true;
}

void pg_connection_prepare(PgConnection *c, const PgStatement *s) {
        if (!has_room_for_statement(c, s->id)) {
                set_broken(c);
                return;
        }
        if (c->prepared[s->id])
                return;
        c->prepared[s->id] = true; /* until its result says otherwise */
        expect(c, PQsendPrepare(c->conn, s->name, s->text.sql, (int) s->text.n_parameters, s->types),
                EXPECT_PREPARE, s->id);
        expect(c, PQpipelineSync(c->conn), EXPECT_OWN, 0);
}

void pg_connection_send(PgConnection *c, const PgStatement *s, const PgParameters *p) {
        expect(c,
                PQsendQueryPrepared(
                        c->conn, s->name, (int) s->text.n_parameters, p->values, p->lengths, p->formats, 1),
                EXPECT_STATEMENT, 0);
}

void pg_connection_sync(PgConnection *c) {
        expect(c, PQpipelineSync(c->conn), EXPECT_SYNC, 0);
}

void pg_connection_roll_back(PgConnection *c) {
        expect(c, PQsendQueryParams(c->conn, "ROLLBACK", 0, NULL, NULL, NULL, NULL, 0), EXPECT_OWN, 0);
        expect(c, PQpipelineSync(c->conn), EXPECT_OWN, 0);
}

void pg_connection_flush(PgConnection *c) {
        int r = c->broken ? -1 : PQflush(c->conn);

        if (r < 0 || sd_event_source_set_io_events(c->io, EPOLLIN | (r > 0 ? EPOLLOUT : 0)) < 0)
                set_broken(c);
}

bool pg_connection_has_failed_transaction(const PgConnection *c) {
        return PQtransactionStatus(c->conn) == PQTRANS_INERROR;
}

bool pg_connection_has_warned(const PgConnection *c) {
        return c->warned;
}

void pg_connection_drop(PgConnection *c, const char *why) {
        log_peer((), LOG_WARNING, "%s", why);
        set_broken(c);
}

void pg_connection_wait_ready(PgConnection *c, uint64_t deadline_usec) {
        while (c->state != STATE_READY && pg_connection_run(c, deadline_usec) >= 0)
                ;
}

int pg_connection_run(PgConnection *c, uint64_t deadline_usec) {
        uint64_t now = boottime_usec();

        if (c->state == STATE_WAITING) {
                if (c->n_failures > 1)
                        return -ENOTCONN;
                start_connecting(c);
        }
        if (c->state == STATE_WAITING)
                return -ENOTCONN;
        if (now >= deadline_usec)
                return -ETIMEDOUT;
        struct pollfd pollfd = {.fd = PQsocket(c->conn), .events = POLLIN};
        if (c->state == STATE_CONNECTING)
                pollfd.events = c->wants == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        else if (!c->broken && PQflush(c->conn) > 0)
                pollfd.events |= POLLOUT;
        int timeout = c->broken ? 0 : (int) ((deadline_usec - now) / USEC_PER_MSEC + 1);
        if (poll(&pollfd, 1, timeout) < 0 && errno != EINTR)
                return -errno;
        if (c->broken || pollfd.revents != 0)
                process(c);
        return c->state == STATE_WAITING ? -ENOTCONN : 0;
}
