/* SPDX-License-Identifier: Apache-2.0 */

/* The PostgreSQL back end: a schema of one database, some connections in the loop, no thread. Its parts are put
 * together here. */

#include <unistd.h>

#include "log/log.h"
#include "store/postgresql/check.h"
#include "store/postgresql/reader.h"
#include "store/postgresql/schema.h"
#include "store/postgresql/writer.h"
#include "util/time-util.h"

#define RETRY_USEC (200 * USEC_PER_MSEC)
#define TIMEOUT_DEFAULT_USEC (10 * USEC_PER_SEC)

struct Backend {
        PgTarget *target;
        PgStatements *statements;
        PgWriter *writer;
        PgReaders *readers;
        PgChecker *checker;
};

static void postgresql_close(Backend *b) {
        b->checker = pg_checker_free(b->checker);
        b->readers = pg_readers_free(b->readers);
        b->writer = pg_writer_free(b->writer);
        b->statements = pg_statements_free(b->statements);
        b->target = pg_target_free(b->target);
        free(b);
}
DEFINE_CLEANUP(Backend *, postgresql_close);

/* A server that starts at the same time as the role is waited for. */
static int connect_patiently(const PgTarget *target, uint64_t timeout_usec, PGconn **ret) {
        uint64_t deadline = boottime_usec() + timeout_usec;

        for (;;) {
                uint64_t now = boottime_usec();
                int r = pg_target_connect_wait(target, deadline - MIN(now, deadline), ret);
                if (r != -ENOTCONN || boottime_usec() + RETRY_USEC >= deadline)
                        return r;
                usleep(RETRY_USEC);
        }
}

static int set_up_schema(const PgTarget *target, const StoreConfig *config) {
        PGconn *conn;

        int r = connect_patiently(target, config->timeout_usec, &conn);
        if (r < 0)
                return r;
        r = pg_schema_ensure(conn, config);
        PQfinish(conn);
        return r;
}

static int postgresql_open(Backend **ret, Store *store, sd_event *event, const StoreConfig *given) {
        _cleanup_(postgresql_closep) Backend *b = new0(Backend, 1);
        StoreConfig config = *given;

        if (!b)
                return -ENOMEM;
        if (config.timeout_usec == 0)
                config.timeout_usec = TIMEOUT_DEFAULT_USEC;
        int r = pg_target_new(&b->target, &config);
        if (r >= 0)
                r = set_up_schema(b->target, &config);
        if (r < 0)
                return r;
        b->statements = pg_statements_new(config.name);
        if (!b->statements)
                return -ENOMEM;
        r = pg_writer_new(&b->writer, store, event, &config, b->target, b->statements);
        if (r >= 0)
                r = pg_readers_new(&b->readers, store, event, &config, b->target, b->statements);
        if (r >= 0)
                r = pg_checker_new(&b->checker, store, event, &config, b->target, b->statements);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(b);
        return 0;
}

static void postgresql_submit(Backend *b, Operation *operation) {
        switch (operation->kind) {
        case OPERATION_WRITE:
        case OPERATION_APPEND:
        case OPERATION_DELETE_ENTRIES:
                pg_writer_submit(b->writer, operation);
                break;
        case OPERATION_READ:
                pg_readers_submit(b->readers, operation);
                break;
        case OPERATION_CHECK:
                pg_checker_submit(b->checker, operation);
                break;
        }
}

/* There is no thread that could hang. */
static bool postgresql_is_alive(_unused_ Backend *b, _unused_ uint64_t max_busy_usec) {
        return true;
}

static bool postgresql_is_connected(Backend *b) {
        return pg_writer_is_connected(b->writer) && pg_readers_are_connected(b->readers);
}

const BackendClass store_backend_class = {
        .kind = "postgresql",
        .version = STONECHAT_VERSION,
        .open = postgresql_open,
        .close = postgresql_close,
        .submit = postgresql_submit,
        .is_alive = postgresql_is_alive,
        .is_connected = postgresql_is_connected,
};
