/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/command/command.h"

#include "schema-tables.h"
#include "socket/channel/channel.h"
#include "socket/command/connect.h"
#include "socket/command/history.h"
#include "socket/command/pending-command.h"
#include "socket/command/presence.h"
#include "socket/command/rpc.h"
#include "socket/command/send-run.h"

/* --- subscriptions: the server alone makes and ends them --- */

static void handle_subscribe(Connection *connection, uint32_t id, const Client__SubscribeRequest *request) {
        if (subscription_find(connection, request->channel))
                connection_reply_error(connection, id, PROTOCOL_ERROR_ALREADY_SUBSCRIBED,
                        "your conversations are subscribed for you");
        else
                connection_reply_error(connection, id, protocol_error(ERROR_NOT_A_MEMBER), NULL);
}

static void handle_unsubscribe(
        Connection *connection, uint32_t id, const Client__UnsubscribeRequest *request) {
        Client__UnsubscribeResult result = CLIENT__UNSUBSCRIBE_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        if (subscription_find(connection, request->channel))
                return connection_reply_error(connection, id, PROTOCOL_ERROR_NOT_AVAILABLE,
                        "a member of a conversation is subscribed to it");
        reply.id = id;
        reply.result_case = CLIENT__REPLY__RESULT_UNSUBSCRIBE;
        reply.unsubscribe = &result;
        (void) connection_reply(connection, &reply);
}

/* --- the others --- */

static void handle_ping(Connection *connection, uint32_t id) {
        Client__PingResult result = CLIENT__PING_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        reply.id = id;
        reply.result_case = CLIENT__REPLY__RESULT_PING;
        reply.ping = &result;
        (void) connection_reply(connection, &reply);
}

static void handle_pong(Connection *connection) {
        connection_note_pong(connection);
        send_runs_on_pong(connection);
}

static void handle_connected(Connection *connection, const Client__Command *command, json_t *data) {
        uint32_t id = command->id;

        switch (command->method_case) {
        case CLIENT__COMMAND__METHOD_RPC:
                command_rpc(connection, id, command->rpc, data);
                break;
        case CLIENT__COMMAND__METHOD_PUBLISH:
                command_publish(connection, id, command->publish, data);
                break;
        case CLIENT__COMMAND__METHOD_HISTORY:
                command_history(connection, id, command->history);
                break;
        case CLIENT__COMMAND__METHOD_PRESENCE:
                command_presence(connection, id, command->presence);
                break;
        case CLIENT__COMMAND__METHOD_PRESENCE_STATS:
                command_presence_stats(connection, id, command->presence_stats);
                break;
        case CLIENT__COMMAND__METHOD_REFRESH:
                command_refresh(connection, id, command->refresh);
                break;
        case CLIENT__COMMAND__METHOD_PING:
                handle_ping(connection, id);
                break;
        case CLIENT__COMMAND__METHOD_SUBSCRIBE:
                handle_subscribe(connection, id, command->subscribe);
                break;
        case CLIENT__COMMAND__METHOD_UNSUBSCRIBE:
                handle_unsubscribe(connection, id, command->unsubscribe);
                break;
        case CLIENT__COMMAND__METHOD_SEND: /* with id 0 nobody waits for the refusal */
        case CLIENT__COMMAND__METHOD_SUB_REFRESH:
                connection_reply_error(connection, id, PROTOCOL_ERROR_NOT_AVAILABLE, NULL);
                break;
        case CLIENT__COMMAND__METHOD_CONNECT:
                connection_disconnect(connection, DISCONNECT_BAD_REQUEST);
                break;
        case CLIENT__COMMAND__METHOD__NOT_SET: /* one of a later version of the protocol */
        default:
                connection_reply_error(connection, id, protocol_error(ERROR_METHOD_NOT_FOUND), NULL);
        }
}

void command_handle(Connection *connection, const Client__Command *command, json_t *data) {
        bool is_connect = command->method_case == CLIENT__COMMAND__METHOD_CONNECT;

        if (connection->state == CONNECTION_OPEN && is_connect && command->id > 0)
                command_connect(connection, command->id, command->connect);
        else if (connection->state == CONNECTION_OPEN)
                connection_disconnect(connection, DISCONNECT_BAD_REQUEST);
        else if (command->id > 0 || command->method_case == CLIENT__COMMAND__METHOD_SEND)
                handle_connected(connection, command, data);
        else if (command->method_case == CLIENT__COMMAND__METHOD__NOT_SET)
                handle_pong(connection);
        else
                connection_disconnect(connection, DISCONNECT_BAD_REQUEST);
}

void command_refused(Connection *connection, const Client__Command *command, json_t *data) {
        if (command->method_case == CLIENT__COMMAND__METHOD_RPC)
                command_rpc_refused(connection, command->rpc, data, ERROR_RATE_LIMITED);
        else if (command->method_case == CLIENT__COMMAND__METHOD_PUBLISH)
                command_publish_refused(connection, command->publish, ERROR_RATE_LIMITED);
}

void command_go_on(Connection *connection) {
        pending_commands_go_on(connection);
}

void command_abandon(Connection *connection) {
        pending_commands_abandon(connection);
        connect_abandon(connection);
}
