/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/check.h"

#include "store/postgresql/connection.h"
#include "store/postgresql/result.h"
#include "util/time-util.h"

#define MAX_FINDINGS 100

struct PgChecker {
        Store *store;
        sd_event *event;
        const PgTarget *target;
        PgStatements *statements;
        PgParameters parameters;
        const MessageInfo *message_info; /* NULL: there are no conversations */
        uint64_t timeout_usec;
        sd_event_source *defer; /* begins and ends checks: a connection cannot be freed from its callbacks */
        PgConnection *connection; /* while the first of the queue is carried out */
        unsigned part; /* whose result comes next */
        int n_findings;
        bool is_over;
        OperationList queue;
};

static void finish_first(PgChecker *c, int r) {
        OperationList one = TAILQ_HEAD_INITIALIZER(one);
        Operation *o = TAILQ_FIRST(&c->queue);

        TAILQ_REMOVE(&c->queue, o, link);
        TAILQ_INSERT_TAIL(&one, o, link);
        o->r = r;
        store_finish(c->store, &one);
}

static void end_check(PgChecker *c, int r) {
        if (c->is_over)
                return;
        c->is_over = true;
        finish_first(c, r);
        (void) sd_event_source_set_enabled(c->defer, SD_EVENT_ONESHOT);
}

/* --- what it asks --- */

static Value get_limit(
        _unused_ const PgParameter *parameter, _unused_ size_t i, _unused_ const void *userdata) {
        return (Value){.type = VALUE_INTEGER, .integer = MAX_FINDINGS};
}

static int send_one(PgChecker *c, const PgShape *shape) {
        const PgStatement *statement;

        int r = pg_statements_get(c->statements, shape, &statement);
        if (r >= 0)
                r = pg_parameters_fill(&c->parameters, statement, 1, get_limit, NULL);
        if (r < 0)
                return r;
        pg_connection_prepare(c->connection, statement);
        pg_connection_send(c->connection, statement, &c->parameters);
        pg_connection_sync(c->connection);
        return 0;
}

static void on_ready(void *userdata) {
        PgChecker *c = userdata;

        int r = send_one(c, &(PgShape){.kind = PG_CHECK_SETTINGS});
        if (r >= 0)
                r = send_one(c, &(PgShape){.kind = PG_CHECK_PAGES});
        if (r >= 0 && c->message_info)
                r = send_one(c, &(PgShape){.kind = PG_CHECK_GAPS, .info = c->message_info});
        if (r >= 0 && c->message_info)
                r = send_one(c, &(PgShape){.kind = PG_CHECK_COUNTS, .info = c->message_info});
        if (r < 0)
                end_check(c, r);
        else
                pg_connection_flush(c->connection);
}

/* --- what it gets --- */

static int take_findings(PgChecker *c, Operation *o, const PGresult *result) {
        int n = MIN(PQntuples(result), MAX_FINDINGS - c->n_findings);

        if (!o->check.findings)
                o->check.findings = arena_new(&o->arena, const char *, MAX_FINDINGS + 1);
        if (!o->check.findings)
                return -ENOMEM;
        for (int i = 0; i < n; i++) {
                const char *text = arena_strndup(
                        &o->arena, PQgetvalue(result, i, 0), (size_t) PQgetlength(result, i, 0));
                if (!text)
                        return -ENOMEM;
                o->check.findings[c->n_findings++] = text;
        }
        return 0;
}

static int take_result(PgChecker *c, Operation *o, const PGresult *result) {
        PgFailure failure;
        int64_t pages;

        if (PQresultStatus(result) != PGRES_TUPLES_OK)
                return PQresultStatus(result) == PGRES_PIPELINE_ABORTED ? -EIO
                                                                        : pg_result_error(result, &failure);
        switch (c->part++) {
        case 0:
                return 0;
        case 1:
                if (pg_result_number(result, 0, 0, &pages) < 0)
                        return -EIO;
                o->check.pages = (uint64_t) pages;
                return 0;
        default:
                return take_findings(c, o, result);
        }
}

static void on_result(const PGresult *result, void *userdata) {
        PgChecker *c = userdata;

        if (c->is_over || PQresultStatus(result) == PGRES_PIPELINE_SYNC)
                return;
        int r = take_result(c, TAILQ_FIRST(&c->queue), result);
        if (r < 0 || c->part == (c->message_info ? 4 : 2))
                end_check(c, r);
}

static void on_lost(void *userdata) {
        end_check(userdata, -ENOTCONN);
}

/* --- */

static const PgOwner owner = {.ready = on_ready, .result = on_result, .lost = on_lost};

static int on_defer(_unused_ sd_event_source *source, void *userdata) {
        PgChecker *c = userdata;

        if (c->connection && !c->is_over)
                return 0;
        c->connection = pg_connection_free(c->connection);
        if (TAILQ_EMPTY(&c->queue))
                return 0;
        c->is_over = false;
        c->part = 0;
        c->n_findings = 0;
        int r = pg_connection_new(&c->connection, c->event, c->target, c->timeout_usec, &owner, c);
        if (r < 0)
                end_check(c, r);
        return 0;
}

int pg_checker_new(PgChecker **ret, Store *store, sd_event *event, const StoreConfig *config,
        const PgTarget *target, PgStatements *statements) {
        _cleanup_(pg_checker_freep) PgChecker *c = new0(PgChecker, 1);
        if (!c)
                return -ENOMEM;
        c->store = store;
        c->event = sd_event_ref(event);
        c->target = target;
        c->statements = statements;
        c->timeout_usec = config->timeout_usec;
        TAILQ_INIT(&c->queue);
        for (const MessageInfo *const *info = config->records; *info; info++)
                if ((*info)->descriptor == &sc__message__descriptor)
                        c->message_info = *info;
        int r = sd_event_add_defer(event, &c->defer, on_defer, c);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->defer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

PgChecker *pg_checker_free(PgChecker *c) {
        if (!c)
                return NULL;
        pg_connection_free(c->connection);
        while (!TAILQ_EMPTY(&c->queue))
                finish_first(c, -ECANCELED);
        sd_event_source_disable_unref(c->defer);
        sd_event_unref(c->event);
        pg_parameters_done(&c->parameters);
        return mfree(c);
}

void pg_checker_submit(PgChecker *c, Operation *o) {
        TAILQ_INSERT_TAIL(&c->queue, o, link);
        (void) sd_event_source_set_enabled(c->defer, SD_EVENT_ONESHOT);
}
