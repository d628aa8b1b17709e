/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/command/rpc.h"

#include "schema-tables.h"
#include "socket/command/pending-command.h"

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
        Call *call = command_call_new(connection, id, method,
                json_string_value(json_object_get(data, "traceparent")), rpc_succeeded, NULL);
        if (!call)
                return;
        (void) json_object_del(data, "traceparent");
        if (command_call_read(call, data))
                command_call_dispatch(
                        connection, call, json_string_value(json_object_get(data, "conversation")));
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
        Call *call = command_call_new(connection, id, &method_message_send,
                json_string_value(json_object_get(data, "traceparent")), publish_succeeded, NULL);
        if (!call)
                return;
        (void) json_object_del(data, "traceparent");
        json_object_set_new(data, "conversation", json_string(request->channel));
        if (command_call_read(call, data))
                command_call_dispatch(connection, call, request->channel);
}
