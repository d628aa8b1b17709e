/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/command/send-run.h"

#include "schema-tables.h"
#include "util/string-util.h"

/* Runs of one connection. A client gets there only by sending into very many conversations while it is refused. */
#define MAX_RUNS 256U
#define MAX_CONVERSATION 64U /* bytes of an id; nothing is stored under a longer one */

typedef TAILQ_HEAD(RunSends, RunSend) RunSends;

struct SendRun {
        Connection *connection; /* NULL: it has ended during send_run_fail() */
        bool failing; /* in that function */
        LIST_ENTRY(SendRun) others;
        uint64_t order;
        RunSends sends; /* under way, in order */
        Sc__ErrorCode broken; /* what comes now fails with; ERROR_NONE: nothing has failed */
        uint16_t pong; /* broken until this pong has come */
        char conversation[];
};

static bool may_pass(Sc__ErrorCode code) {
        return code != ERROR_NONE && schema_error(code)->temporary;
}

static SendRun *find_run(const Connection *connection, const char *conversation) {
        SendRun *run;

        LIST_FOREACH(run, &connection->send_runs, others)
                if (streq(run->conversation, conversation))
                        return run;
        return NULL;
}

static unsigned count_runs(const Connection *connection) {
        const SendRun *run;
        unsigned n = 0;

        LIST_FOREACH(run, &connection->send_runs, others)
                n++;
        return n;
}

static SendRun *add_run(Connection *connection, const char *conversation) {
        size_t size = strlen(conversation) + 1;
        SendRun *run;

        if (count_runs(connection) >= MAX_RUNS) {
                connection_disconnect(connection, DISCONNECT_TOO_MANY_REQUESTS);
                return NULL;
        }
        run = calloc(1, sizeof(*run) + size);
        if (!run)
                return NULL;
        run->connection = connection;
        run->order = order_new();
        TAILQ_INIT(&run->sends);
        memcpy(run->conversation, conversation, size);
        LIST_INSERT_HEAD(&connection->send_runs, run, others);
        return run;
}

static void free_run(SendRun *run) {
        if (run->connection)
                LIST_REMOVE(run, others);
        free(run);
}

static void free_if_unused(SendRun *run) {
        if (run->broken == ERROR_NONE && TAILQ_EMPTY(&run->sends))
                free_run(run);
}

bool send_run_join(RunSend *send, Connection *connection, Call *call, const Sc__SendRequest *request) {
        SendRun *run =
                find_run(connection, request->conversation) ?: add_run(connection, request->conversation);

        if (!run) {
                call_fail_errno(call, -ENOMEM, "keep the order");
                return false;
        }
        if (run->broken != ERROR_NONE) {
                call_fail(call, run->broken, "%s", "one before it failed");
                return false;
        }
        send->run = run;
        send->call = call;
        call->order = run->order;
        TAILQ_INSERT_TAIL(&run->sends, send, entry);
        return true;
}

void send_run_leave(RunSend *send) {
        SendRun *run = TAKE_PTR(send->run);

        if (!run)
                return;
        TAILQ_REMOVE(&run->sends, send, entry);
        free_if_unused(run);
}

void send_run_break(Connection *connection, const char *conversation, Sc__ErrorCode code) {
        SendRun *run;

        if (!may_pass(code) || isempty(conversation) || strlen(conversation) > MAX_CONVERSATION)
                return;
        run = find_run(connection, conversation) ?: add_run(connection, conversation);
        /* Without memory for it the order could not be kept. */
        if (!run)
                return connection_disconnect(connection, DISCONNECT_SERVER_ERROR);
        run->order = order_again(run->order);
        run->broken = code;
        run->pong = connection->n_pings + 1;
        connection_ping(connection);
}

void send_run_fail(RunSend *send, Sc__ErrorCode code) {
        SendRun *run = TAKE_PTR(send->run);
        RunSend *behind;

        if (!run)
                return;
        const RunSend *before = TAILQ_PREV(send, RunSends, entry);
        TAILQ_REMOVE(&run->sends, send, entry);
        run->failing = true;
        /* Each is answered, and that may end the connection, and with it all that is left of the run. */
        while (run->connection && may_pass(code) &&
                (behind = before ? TAILQ_NEXT(before, entry) : TAILQ_FIRST(&run->sends))) {
                TAILQ_REMOVE(&run->sends, behind, entry);
                behind->run = NULL;
                behind->overruled = code;
                call_cancel(behind->call);
        }
        run->failing = false;
        if (run->connection)
                free_if_unused(run);
        else
                free_run(run);
}

void send_runs_on_pong(Connection *connection) {
        SendRun *run, *next;

        for (run = LIST_FIRST(&connection->send_runs); run; run = next) {
                next = LIST_NEXT(run, others);
                if (run->broken == ERROR_NONE || (int16_t) (connection->n_pongs - run->pong) < 0)
                        continue;
                run->broken = ERROR_NONE;
                free_if_unused(run);
        }
}

void send_runs_abandon(Connection *connection) {
        SendRun *run;
        RunSend *send;

        while ((run = LIST_FIRST(&connection->send_runs))) {
                TAILQ_FOREACH(send, &run->sends, entry)
                        send->run = NULL;
                LIST_REMOVE(run, others);
                run->connection = NULL;
                if (!run->failing)
                        free_run(run);
        }
}
