/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/check.h"

#include <stdatomic.h>

#include "store/sqlite/connection.h"
#include "util/string-util.h"

#define MAX_FINDINGS 100U
/* Steps of SQLite's virtual machine between two looks at whether to stop: well under a millisecond. */
#define STEPS_BETWEEN_LOOKS 10000

struct Checker {
        Store *store;
        char *path;
        bool has_messages;
        _Atomic bool stop;
        WorkQueue *queue;
};

typedef struct Findings {
        Arena *arena;
        const char **texts; /* room for MAX_FINDINGS and the NULL */
        unsigned n;
} Findings;

static int add_finding(Findings *findings, const char *text) {
        char *copy = arena_strdup(findings->arena, text);
        if (!copy)
                return -ENOMEM;
        if (findings->n < MAX_FINDINGS)
                findings->texts[findings->n++] = copy;
        return 0;
}

/* Each row is one finding, except a sole "ok". */
static int collect(SqliteConnection *connection, Findings *findings, const char *sql) {
        _cleanup_finalize_ sqlite3_stmt *statement = NULL;

        int rc = sqlite3_prepare_v2(connection_handle(connection), sql, -1, &statement, NULL);
        if (rc != SQLITE_OK)
                return connection_error(connection, rc);
        while (findings->n < MAX_FINDINGS && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
                const char *text = (const char *) sqlite3_column_text(statement, 0);
                if (!text)
                        return -ENOMEM;
                if (streq(text, "ok"))
                        continue;
                int r = add_finding(findings, text);
                if (r < 0)
                        return r;
        }
        return connection_error(connection, rc);
}

/* Seqs follow one another from the oldest entry that was not deleted, and counts never go back. */
static const char *const log_checks[] = {
        "SELECT 'conversation ' || conversation || ' has ' || count(*) || ' entries from number ' || "
        "min(seq) ||"
        " ' to number ' || max(seq)"
        " FROM messages GROUP BY conversation HAVING count(*) <> max(seq) - min(seq) + 1 LIMIT 100",
        "SELECT 'conversation ' || conversation || ' counts less at number ' || seq || ' than before'"
        " FROM (SELECT conversation, seq, \"count\" AS here, lag(\"count\", 1, 0) OVER"
        " (PARTITION BY conversation ORDER BY seq) AS before FROM messages) WHERE here < before LIMIT 100",
};

static int run_checks(const Checker *c, SqliteConnection *connection, Findings *findings) {
        /* The quick one tells of broken pages before the thorough one stumbles over them. */
        int r = collect(connection, findings, "PRAGMA quick_check(100)");
        if (r >= 0 && findings->n == 0)
                r = collect(connection, findings, "PRAGMA integrity_check(100)");
        if (r < 0 || findings->n > 0 || !c->has_messages)
                return r;
        FOREACH_ARRAY(check, log_checks, ELEMENTSOF(log_checks)) {
                r = collect(connection, findings, *check);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int on_progress(void *userdata) {
        const Checker *c = userdata;
        return atomic_load(&c->stop);
}

static int run_check(Checker *c, Operation *o) {
        _cleanup_(connection_closep) SqliteConnection *connection = NULL;
        Findings findings = {.arena = &o->arena};
        int64_t pages;

        findings.texts = arena_new(findings.arena, const char *, MAX_FINDINGS + 1);
        if (!findings.texts)
                return -ENOMEM;
        int r = connection_open(&connection, c->path, CONNECTION_READER);
        if (r < 0)
                return r;
        sqlite3_progress_handler(connection_handle(connection), STEPS_BETWEEN_LOOKS, on_progress, c);
        r = connection_query_number(connection, "PRAGMA page_count", &pages);
        if (r >= 0)
                r = run_checks(c, connection, &findings);
        if (r < 0)
                return r;
        o->check.findings = findings.texts;
        o->check.pages = (uint64_t) pages;
        return 0;
}

static void on_batch(WorkList *items, _unused_ unsigned thread, void *userdata) {
        OperationList done = TAILQ_HEAD_INITIALIZER(done);
        Checker *c = userdata;
        WorkItem *item;

        while ((item = work_list_pop(items))) {
                Operation *operation = CONTAINER_OF(item, Operation, work);
                operation->r = atomic_load(&c->stop) ? -ECANCELED : run_check(c, operation);
                TAILQ_INSERT_TAIL(&done, operation, link);
        }
        store_finish(c->store, &done);
}

int checker_start(Checker **ret, Store *store, const StoreConfig *config, const char *path) {
        Checker *c = new0(Checker, 1);
        if (!c)
                return -ENOMEM;
        c->store = store;
        for (const MessageInfo *const *info = config->records; *info; info++)
                c->has_messages |= (*info)->descriptor == &sc__message__descriptor;
        c->path = strdup(path);
        int r = !c->path ? -ENOMEM
                         : work_queue_start(&c->queue, &(WorkQueueConfig){
                                                               .name = "store-check",
                                                               .n_threads = 1,
                                                               .max_batch = 1,
                                                               .run = on_batch,
                                                               .userdata = c,
                                                       });
        if (r < 0)
                checker_stop(c);
        else
                *ret = c;
        return r;
}

Checker *checker_stop(Checker *c) {
        if (!c)
                return NULL;
        atomic_store(&c->stop, true);
        work_queue_stop(c->queue);
        free(c->path);
        free(c);
        return NULL;
}

void checker_submit(Checker *c, Operation *operation) {
        work_queue_push(c->queue, &operation->work);
}
