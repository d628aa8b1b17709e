/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/connection/receive.h"

#include <stdio.h>

#include "schema-tables.h"
#include "util/time-util.h"

/* Commands that may come behind a connect, in bytes: they belong to somebody who is not signed in yet. */
#define MAX_DEFERRED 4096U

/* Commands behind a connect wait until it is answered. */
static int defer_commands(Connection *connection, const CodecReader *rest) {
        if (rest->size == 0)
                return 0;
        if (!connection->deferred) {
                connection->deferred = new0(Buffer, 1);
                if (!connection->deferred)
                        return -ENOMEM;
                connection->deferred->limit = MAX_DEFERRED;
        }
        (void) buffer_append(connection->deferred, rest->data, rest->size);
        if (connection->codec == CODEC_JSON)
                (void) buffer_append(connection->deferred, "\n", 1);
        return connection->deferred->error;
}

/* That of the method, if the command calls one. */
static unsigned command_cost(const Client__Command *command) {
        const MethodInfo *method = NULL;

        switch (command->method_case) {
        case CLIENT__COMMAND__METHOD_RPC:
                method = schema_find_method(command->rpc->method);
                break;
        case CLIENT__COMMAND__METHOD_PUBLISH:
                method = &method_message_send;
                break;
        case CLIENT__COMMAND__METHOD_HISTORY:
                method = &method_message_history;
                break;
        case CLIENT__COMMAND__METHOD_PRESENCE:
        case CLIENT__COMMAND__METHOD_PRESENCE_STATS:
                method = &method_conversation_presence;
                break;
        default:
                break;
        }
        return method ? method->cost : CHARGE_DEFAULT_COST;
}

/* 0: the limits of the user and the address let the command pass; otherwise when they would, in microseconds. */
static uint64_t check_rate(Connection *connection, unsigned cost) {
        SocketRole *role = connection->role;

        role->statistics.commands++;
        uint64_t wait = charge(
                role->charges, connection_user(connection), websocket_address(connection->socket), cost);
        if (wait == 0)
                connection->n_refused = 0;
        return wait;
}

/* The connection of a client that goes on all the same is ended. `command` is NULL if it could not be read. */
static void refuse(Connection *connection, uint32_t id, const Client__Command *command, json_t *data,
        uint64_t wait_usec) {
        char detail[64];

        if (++connection->n_refused > CONNECTION_MAX_REFUSED)
                return connection_disconnect(connection, DISCONNECT_TOO_MANY_REQUESTS);
        if (command && connection->state == CONNECTION_CONNECTED)
                connection->role->handlers->on_refused(connection, command, data);
        snprintf(detail, sizeof(detail), "again in %u s", charge_wait_seconds(wait_usec));
        connection_reply_error(connection, id, protocol_error(ERROR_RATE_LIMITED), detail);
}

/* One command: 1, or 0 at the end. */
static int receive_command(Connection *connection, CodecReader *reader) {
        _cleanup_arena_ Arena arena;
        _cleanup_json_ json_t *data = NULL;
        Client__Command *command;
        JsonError error;
        uint32_t id;

        arena_init(&arena, COMMAND_ARENA_LIMIT);
        int r = codec_read(reader, &arena, &command, &data, &id, &error);
        if (r <= 0 && r != -EINVAL)
                return r;
        /* The rate limit does not count the answer to our ping. It does count a pong that was not asked
         * for. */
        bool is_pong = r > 0 && id == 0 && command->method_case == CLIENT__COMMAND__METHOD__NOT_SET &&
                       connection->pong_by > 0;
        uint64_t wait =
                is_pong ? 0 : check_rate(connection, r > 0 ? command_cost(command) : CHARGE_DEFAULT_COST);
        if (wait > 0) {
                refuse(connection, id, r > 0 ? command : NULL, data, wait);
                return 1;
        }
        if (r < 0)
                connection_reply_error(connection, id, protocol_error(error.code), error.detail);
        else
                connection->role->handlers->on_command(connection, command, data);
        return 1;
}

static void receive_commands(Connection *connection, CodecReader *reader) {
        int r;

        do {
                if (connection->state == CONNECTION_CLOSING)
                        return;
                r = connection->state == CONNECTION_CONNECTING ? defer_commands(connection, reader)
                                                               : receive_command(connection, reader);
        } while (r > 0);
        if (r < 0)
                connection_disconnect(connection, DISCONNECT_BAD_REQUEST);
}

void connection_receive(Connection *connection, const char *data, size_t size, bool binary) {
        CodecKind kind = binary ? CODEC_PROTOBUF : CODEC_JSON;

        if (connection->state == CONNECTION_CLOSING)
                return;
        if (!connection->codec_known) {
                connection->codec = kind;
                connection->codec_known = true;
        }
        if (connection->codec != kind)
                return connection_disconnect(connection, DISCONNECT_BAD_REQUEST);
        connection_batch_begin(connection);
        receive_commands(connection, &(CodecReader){.kind = kind, .data = data, .size = size});
        connection_batch_end(connection);
}

void connection_connected(Connection *connection) {
        const Conf *conf = connection->role->conf;
        Buffer *deferred = TAKE_PTR(connection->deferred);
        uint32_t interval = (uint32_t) MAX(conf->socket_ping_interval_usec / USEC_PER_SEC, 1ULL);
        uint32_t spread;

        connection->state = CONNECTION_CONNECTED;
        connection->role->n_signed_in++;
        websocket_set_signed_in(connection->socket);
        /* The first ping comes early by up to half the interval, so that connections that were made together
         * are not pinged together for ever. */
        random_bytes(&spread, sizeof(spread));
        connection->ping_at = timer_wheel_clock() + interval - spread % (interval / 2 + 1);
        connection_arm(connection);
        if (!deferred)
                return;
        connection_batch_begin(connection);
        receive_commands(connection,
                &(CodecReader){
                        .kind = connection->codec, .data = (char *) deferred->data, .size = deferred->size});
        connection_batch_end(connection);
        buffer_done(deferred);
        free(deferred);
}
