/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/command/rpc.h"

#include "schema-tables.h"
#include "socket/command/pending-command.h"

static const char *string_of(const json_t *data, const char *name) {
        return json_string_value(json_object_get(data, name));
}

/* What is no object breaks no run: it would have been refused in any case. */
static json_t *read_data(ProtobufCBinaryData data, json_t *parsed) {
        json_t *object = NULL;
        JsonError error;

        if (parsed)
                return json_incref(parsed);
        return json_parse((const char *) data.data, data.len, &object, &error) >= 0 ? object : NULL;
}

void command_rpc_refused(
        Connection *connection, const Client__RPCRequest *request, json_t *parsed, Sc__ErrorCode code) {
        if (schema_find_method(request->method) != &method_message_send)
                return;
        _cleanup_json_ json_t *data = read_data(request->data, parsed);
        send_run_break(connection, string_of(data, "conversation"), code);
}

void command_publish_refused(
        Connection *connection, const Client__PublishRequest *request, Sc__ErrorCode code) {
        send_run_break(connection, request->channel, code);
}

/* command_call_new() is going to refuse it. */
static void note_if_too_many(Connection *connection, const char *conversation) {
        if (connection->n_pending >= CONNECTION_MAX_PENDING)
                send_run_break(connection, conversation, ERROR_RATE_LIMITED);
}

static void rpc_succeeded(PendingCommand *pending, const ProtobufCMessage *response) {
        _cleanup_buffer_ Buffer data = {};
        Client__RPCResult result = CLIENT__RPCRESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        if (json_write_message(&data, pending->method->response, response) < 0)
                return connection_reply_error(
                        pending->connection, pending->id, protocol_error(ERROR_OVERLOADED), NULL);
        result.data.data = data.data;
        result.data.len = data.size;
        reply.id = pending->id;
        reply.result_case = CLIENT__REPLY__RESULT_RPC;
        reply.rpc = &result;
        (void) connection_reply(pending->connection, &reply);
}

void command_rpc(Connection *connection, uint32_t id, const Client__RPCRequest *request, json_t *parsed) {
        const MethodInfo *method = schema_find_method(request->method);

        if (!method || method->access != ACCESS_USER)
                return connection_reply_error(
                        connection, id, protocol_error(ERROR_METHOD_NOT_FOUND), request->method);
        _cleanup_json_ json_t *data = command_data(connection, id, request->data, parsed);
        if (!data)
                return;
        if (method == &method_message_send)
                note_if_too_many(connection, string_of(data, "conversation"));
        Call *call = command_call_new(
                connection, id, method, string_of(data, "traceparent"), rpc_succeeded, NULL);
        if (!call)
                return;
        (void) json_object_del(data, "traceparent");
        if (command_call_read(call, data))
                command_call_dispatch(connection, call, string_of(data, "conversation"));
}

static void publish_succeeded(PendingCommand *pending, const ProtobufCMessage *response) {
        Client__PublishResult result = CLIENT__PUBLISH_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        reply.id = pending->id;
        reply.result_case = CLIENT__REPLY__RESULT_PUBLISH;
        reply.publish = &result;
        (void) connection_reply(pending->connection, &reply);
}

void command_publish(
        Connection *connection, uint32_t id, const Client__PublishRequest *request, json_t *parsed) {
        _cleanup_json_ json_t *data = command_data(connection, id, request->data, parsed);
        if (!data)
                return;
        note_if_too_many(connection, request->channel);
        Call *call = command_call_new(connection, id, &method_message_send, string_of(data, "traceparent"),
                publish_succeeded, NULL);
        if (!call)
                return;
        (void) json_object_del(data, "traceparent");
        json_object_set_new(data, "conversation", json_string(request->channel));
        if (command_call_read(call, data))
                command_call_dispatch(connection, call, request->channel);
}
