/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/command/pending-command.h"

#include "proto/json.h"
#include "schema-tables.h"
#include "util/string-util.h"

static int pending_new(PendingCommand **ret, Connection *connection, uint32_t id, const MethodInfo *method,
        const Trace *trace, void (*succeeded)(PendingCommand *pending, const ProtobufCMessage *response)) {
        PendingCommand *pending = new0(PendingCommand, 1);
        if (!pending)
                return -ENOMEM;
        pending->connection = connection;
        pending->id = id;
        pending->trace = *trace;
        pending->method = method;
        pending->succeeded = succeeded;
        LIST_INSERT_HEAD(&connection->pending, pending, link);
        connection->n_pending++;
        *ret = pending;
        return 0;
}

void pending_commands_abandon(Connection *connection) {
        send_runs_abandon(connection);
        while (!LIST_EMPTY(&connection->pending)) {
                PendingCommand *pending = LIST_FIRST(&connection->pending);
                LIST_REMOVE(pending, link);
                pending->connection = NULL;
                if (pending->waiting) {
                        TAILQ_REMOVE(&connection->large, pending, in_large);
                        call_fail(pending->call, ERROR_UNAVAILABLE, "%s", "");
                } else
                        call_cancel(pending->call); /* may free it */
        }
        connection->n_pending = connection->n_large = 0;
}

static void answer_failure(Connection *connection, PendingCommand *pending, const Call *call,
        Sc__ErrorCode code, const char *detail) {
        bool is_send = call->method == &method_message_send && call->request,
             batch = !connection->role->batch;

        if (batch)
                connection_batch_begin(connection);
        /* One that was cancelled for one before it is answered behind that one's ping. */
        if (is_send && pending->send.overruled == ERROR_NONE)
                send_run_break(connection, ((const Sc__SendRequest *) call->request)->conversation, code);
        connection_reply_error(connection, pending->id, protocol_error(code), detail);
        send_run_fail(&pending->send, code);
        if (batch)
                connection_batch_end(connection);
}

static void on_answer(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        _cleanup_free_ PendingCommand *pending = userdata;
        Connection *connection = pending->connection;

        if (!connection)
                return;
        LIST_REMOVE(pending, link);
        connection->n_pending--;
        if (pending->send.overruled != ERROR_NONE) {
                code = pending->send.overruled;
                detail = "one before it failed";
        }
        connection->n_large -= pending->large;
        log_trace(&pending->trace,
                (.user = connection_user(connection), .method = pending->method->name,
                        .error = code == ERROR_NONE ? NULL : schema_error(code)->name),
                "Answering command %u", pending->id);
        if (code == ERROR_NONE) {
                pending->succeeded(pending, response);
                send_run_leave(&pending->send);
        } else
                answer_failure(connection, pending, call, code, detail);
        if (pending->large)
                pending_commands_go_on(connection);
}

Call *command_call_new(Connection *connection, uint32_t id, const MethodInfo *method,
        const char *traceparent,
        void (*succeeded)(PendingCommand *pending, const ProtobufCMessage *response),
        PendingCommand **ret_pending) {
        Sc__Caller caller = SC__CALLER__INIT;
        _cleanup_(call_freep) Call *call = NULL;
        PendingCommand *pending;
        Trace trace;

        if (connection->n_pending >= CONNECTION_MAX_PENDING) {
                connection_reply_error(connection, id, protocol_error(ERROR_RATE_LIMITED),
                        "too many commands are waiting for their answer");
                return NULL;
        }
        trace_begin(traceparent, &trace);
        charge_trace(connection->role->charges, connection_user(connection),
                websocket_address(connection->socket), &trace);
        caller.user = (char *) connection_user(connection);
        caller.session = (char *) connection_session(connection);
        caller.device = (char *) connection_device(connection);
        caller.client = connection->client;
        call = call_new(method, CALL_ARENA_LIMIT, on_answer, NULL);
        if (!call || call_set_caller(call, &caller) < 0 ||
                !(call->address = arena_strdup(&call->arena, websocket_address(connection->socket))) ||
                pending_new(&pending, connection, id, method, &trace, succeeded) < 0) {
                connection_reply_error(connection, id, protocol_error(ERROR_OVERLOADED), NULL);
                return NULL;
        }
        call->trace = trace;
        call->userdata = pending;
        pending->call = call;
        if (ret_pending)
                *ret_pending = pending;
        return TAKE_PTR(call);
}

void command_call_dispatch(Connection *connection, Call *call, const char *conversation) {
        PendingCommand *pending = call->userdata;

        log_trace(&call->trace,
                (.user = connection_user(connection), .method = call->method->name,
                        .conversation = conversation),
                "Command %u of connection %s", pending->id, connection->client);
        if (!call->method->large) {
                if (call->method != &method_message_send || send_run_join(&pending->send, connection, call,
                                                                    (const Sc__SendRequest *) call->request))
                        dispatcher_dispatch(connection->role->process->dispatcher, call);
                return;
        }
        pending->waiting = true;
        TAILQ_INSERT_TAIL(&connection->large, pending, in_large);
        pending_commands_go_on(connection);
}

void pending_commands_go_on(Connection *connection) {
        PendingCommand *pending;

        while ((pending = TAILQ_FIRST(&connection->large)) && connection->n_large < CONNECTION_MAX_LARGE &&
                connection_has_room(connection)) {
                TAILQ_REMOVE(&connection->large, pending, in_large);
                pending->waiting = false;
                pending->large = true;
                connection->n_large++;
                dispatcher_dispatch(connection->role->process->dispatcher, pending->call);
        }
}

json_t *command_data(Connection *connection, uint32_t id, ProtobufCBinaryData data, json_t *parsed) {
        JsonError error = {.code = ERROR_INVALID_ARGUMENT, .detail = "data: must be an object"};
        json_t *object = NULL;

        if (parsed)
                return json_incref(parsed);
        if (data.len == 0)
                object = json_object();
        else if (json_parse((const char *) data.data, data.len, &object, &error) >= 0 &&
                 json_is_null(object)) {
                json_decref(object);
                object = json_object();
        }
        if (json_is_object(object))
                return object;
        json_decref(object);
        connection_reply_error(connection, id, protocol_error(error.code), error.detail);
        return NULL;
}

bool command_call_read(Call *call, const json_t *data) {
        JsonError error;

        int r = json_read_message(&call->arena, call->method->request, data, &call->request, &error);
        if (r >= 0)
                return true;
        if (r == -EINVAL)
                call_fail(call, error.code, "%s", error.detail);
        else
                call_fail_errno(call, r, "read the data");
        return false;
}

void *command_call_request(Call *call) {
        call->request = arena_new_message(&call->arena, call->method->request->descriptor);
        if (!call->request) {
                call_fail_errno(call, -ENOMEM, "make the request");
                return NULL;
        }
        return call->request;
}
