/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/connection/connection.h"

#include <stdio.h>

#include "log/message-ids.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* Replies that are collected are sent at the latest when they are this large. */
#define BATCH_SIZE (64U << 10)

static int flush_batch(Connection *connection);

static uint32_t seconds(uint64_t usec) {
        return (uint32_t) MAX(usec / USEC_PER_SEC, 1ULL);
}

/* A connection that is OPEN has this long to connect. */
static void arm_handshake(Connection *connection) {
        SocketRole *role = connection->role;

        timer_wheel_set(&role->timer_wheel, &connection->deadline,
                timer_wheel_clock() + seconds(role->conf->socket_handshake_timeout_usec));
}

int connection_new(Connection **ret, SocketRole *role, WebSocket *socket) {
        Connection *connection = new0(Connection, 1);
        if (!connection)
                return -ENOMEM;
        connection->role = role;
        connection->socket = socket;
        TAILQ_INIT(&connection->subscriptions);
        LIST_INIT(&connection->pending);
        LIST_INIT(&connection->send_runs);
        TAILQ_INIT(&connection->large);
        LIST_INIT(&connection->attachments);
        uuid_v7(connection->client);
        TAILQ_INSERT_TAIL(&role->connections, connection, in_role);
        role->n_connections++;
        role->statistics.connections_total++;
        arm_handshake(connection);
        *ret = connection;
        return 0;
}

/* --- who it is --- */

const char *connection_user(const Connection *connection) {
        return connection->user ? connection->user->id : "";
}

static int set_user(Connection *connection, const char *id) {
        SocketRole *role = connection->role;
        uint64_t max = role->conf->socket_max_connections_per_user;
        ConnectedUser *user = connected_user_get(role, id);

        if (!user)
                return -ENOMEM;
        if (max > 0 && user->n_connections >= max)
                return -EUSERS;
        TAILQ_INSERT_TAIL(&user->connections, connection, in_user);
        user->n_connections++;
        connection->user = user;
        return 0;
}

static void leave_user(Connection *connection) {
        ConnectedUser *user = TAKE_PTR(connection->user);

        if (!user)
                return;
        TAILQ_REMOVE(&user->connections, connection, in_user);
        user->n_connections--;
        connected_user_free_if_unused(connection->role, user);
}

int connection_set_identity(Connection *connection, const TokenClaims *claims) {
        size_t n = strlen(claims->session) + 1, m = strlen(claims->device) + 1;
        char *identity = malloc(n + m);

        if (!identity)
                return -ENOMEM;
        memcpy(identity, claims->session, n);
        memcpy(identity + n, claims->device, m);
        free(connection->identity);
        connection->identity = identity;
        return set_user(connection, claims->user);
}

/* --- states --- */

static void drop_deferred(Connection *connection) {
        if (!connection->deferred)
                return;
        buffer_done(connection->deferred);
        connection->deferred = mfree(connection->deferred);
}

/* To CLOSING: nothing but its WebSocket knows the connection afterwards. */
static void connection_retire(Connection *connection) {
        SocketRole *role = connection->role;

        if (connection->state == CONNECTION_CLOSING)
                return;
        if (connection->state == CONNECTION_CONNECTED)
                role->n_signed_in--;
        connection->state = CONNECTION_CLOSING;
        timer_wheel_remove(&role->timer_wheel, &connection->deadline);
        role->handlers->on_closing(connection);
        TAILQ_REMOVE(&role->connections, connection, in_role);
        leave_user(connection);
        drop_deferred(connection);
}

void connection_reopen(Connection *connection) {
        if (connection->state == CONNECTION_CLOSING)
                return;
        connection->state = CONNECTION_OPEN;
        leave_user(connection);
        drop_deferred(connection);
        arm_handshake(connection);
}

void connection_disconnect(Connection *connection, Disconnect why) {
        SocketRole *role = connection->role;

        if (connection->state == CONNECTION_CLOSING)
                return;
        /* What was answered before goes out before. */
        if (role->batch == connection && flush_batch(connection) < 0)
                return;
        log_debug("Connection %s ends: %u %s", connection->client, why.code, why.reason);
        connection_retire(connection);
        websocket_close(connection->socket, why.code, why.reason);
}

Connection *connection_free(Connection *connection) {
        if (!connection)
                return NULL;
        SocketRole *role = connection->role;
        if (role->batch == connection) {
                role->batch = NULL;
                role->batch_buffer.size = 0;
        }
        connection_retire(connection);
        role->n_connections--;
        free(connection->identity);
        free(connection);
        return NULL;
}

/* --- deadlines --- */

void connection_arm(Connection *connection) {
        uint32_t nearest = connection->ping_at;

        if (connection->pong_by > 0)
                nearest = MIN(nearest, connection->pong_by);
        if (connection->expires_at > 0)
                nearest = MIN(nearest, connection->expires_at + CONNECTION_EXPIRY_GRACE);
        timer_wheel_set(&connection->role->timer_wheel, &connection->deadline, nearest);
}

static void ping(Connection *connection, uint32_t now) {
        static const Client__Reply reply = CLIENT__REPLY__INIT;
        SocketRole *role = connection->role;

        connection->n_pings++;
        int r = role->batch == connection ? connection_reply(connection, &reply)
                                          : connection_send(connection, role->ping[connection->codec]);
        if (r < 0)
                return;
        connection->ping_at = now + seconds(role->conf->socket_ping_interval_usec);
        if (connection->pong_by == 0)
                connection->pong_by = now + seconds(role->conf->socket_pong_timeout_usec);
        connection_arm(connection);
}

void connection_on_deadline(TimerWheelEntry *entry, uint32_t now) {
        Connection *connection = CONTAINER_OF(entry, Connection, deadline);

        if (connection->state == CONNECTION_OPEN)
                return connection_disconnect(connection, DISCONNECT_STALE);
        if (connection->state == CONNECTION_CONNECTING)
                return connection->role->handlers->on_late(connection);
        if (connection->state != CONNECTION_CONNECTED)
                return;
        if (connection->expires_at > 0 && now >= connection->expires_at + CONNECTION_EXPIRY_GRACE)
                return connection_disconnect(connection, DISCONNECT_EXPIRED);
        if (connection->pong_by > 0 && now >= connection->pong_by) {
                if (!connection->paused)
                        return connection_disconnect(connection, DISCONNECT_NO_PONG);
                connection->pong_by = now + seconds(connection->role->conf->socket_pong_timeout_usec);
        }
        if (now >= connection->ping_at)
                ping(connection, now);
        else
                connection_arm(connection);
}

void connection_ping(Connection *connection) {
        ping(connection, timer_wheel_clock());
}

void connection_note_pong(Connection *connection) {
        uint64_t timeout = connection->role->conf->socket_pong_timeout_usec;

        if (connection->n_pongs == connection->n_pings)
                return;
        connection->n_pongs++;
        connection->pong_by =
                connection->n_pongs == connection->n_pings ? 0 : timer_wheel_clock() + seconds(timeout);
        connection_arm(connection);
}

/* --- sending --- */

static int send_failed(Connection *connection) {
        connection_retire(connection);
        /* It is closing already, unless it only lacked memory. */
        websocket_close(connection->socket, DISCONNECT_SERVER_ERROR.code, DISCONNECT_SERVER_ERROR.reason);
        return -ECONNRESET;
}

int connection_send(Connection *connection, Bytes *message) {
        SocketRole *role = connection->role;

        if (connection->state == CONNECTION_CLOSING)
                return -ECONNRESET;
        /* The message that is first in the queue may be of any size: the limit is for what comes behind it. */
        size_t queued = websocket_queued(connection->socket);
        if (queued == 0)
                connection->allowance = (uint32_t) message->size;
        else if (queued + message->size > role->conf->socket_max_queue + connection->allowance) {
                role->statistics.slow++;
                log_peer((.message_id = MESSAGE_ID_SLOW_CLIENT_CLOSED, .user = connection_user(connection)),
                        LOG_NOTICE, "A client does not read fast enough, closing its connection.");
                connection_disconnect(connection, DISCONNECT_SLOW);
                return -ECONNRESET;
        }
        return websocket_send(connection->socket, message, connection->codec == CODEC_PROTOBUF) < 0
                       ? send_failed(connection)
                       : 0;
}

/* Reads no more commands while too much waits. */
static void pause_if_full(Connection *connection) {
        if (connection->paused || websocket_queued_replies(connection->socket) <= CONNECTION_MAX_WAITING ||
                !websocket_notify_drained(connection->socket))
                return;
        connection->paused = true;
        websocket_pause_reading(connection->socket, true);
}

int connection_send_reply(Connection *connection, Bytes *message) {
        if (connection->state == CONNECTION_CLOSING)
                return -ECONNRESET;
        if (websocket_reply(connection->socket, message, connection->codec == CODEC_PROTOBUF) < 0)
                return send_failed(connection);
        pause_if_full(connection);
        return 0;
}

bool connection_has_room(Connection *connection) {
        return websocket_queued(connection->socket) + websocket_queued_replies(connection->socket) <=
                       CONNECTION_MAX_WAITING ||
               !websocket_notify_drained(connection->socket);
}

void connection_drained(Connection *connection) {
        if (connection->state == CONNECTION_CLOSING)
                return;
        if (connection->paused) {
                connection->paused = false;
                websocket_pause_reading(connection->socket, false);
                if (connection->pong_by > 0)
                        connection->pong_by = timer_wheel_clock() +
                                              seconds(connection->role->conf->socket_pong_timeout_usec);
        }
        connection->role->handlers->on_drained(connection);
}

void connection_count_recoverable(Connection *connection, bool *recoverable) {
        uint64_t max = connection->role->conf->socket_max_frame / CONNECTION_POSITION_SIZE;

        if (*recoverable || connection->n_recoverable >= max)
                return;
        *recoverable = true;
        connection->n_recoverable++;
}

static int send_buffer(Connection *connection, Buffer *buffer) {
        _cleanup_(bytes_unrefp) Bytes *message = bytes_new_copy(buffer->data, buffer->size);

        buffer->size = 0;
        if (!message) {
                connection_disconnect(connection, DISCONNECT_SERVER_ERROR);
                return -ECONNRESET;
        }
        return connection_send_reply(connection, message);
}

static int flush_batch(Connection *connection) {
        Buffer *batch = &connection->role->batch_buffer;

        return batch->size > 0 ? send_buffer(connection, batch) : 0;
}

void connection_batch_begin(Connection *connection) {
        assert_se(!connection->role->batch);
        connection->role->batch = connection;
}

void connection_batch_end(Connection *connection) {
        SocketRole *role = connection->role;

        (void) flush_batch(connection);
        role->batch = NULL;
        role->batch_buffer.size = 0;
        if (role->batch_buffer.allocated > 4 * BATCH_SIZE)
                buffer_done(&role->batch_buffer);
}

static int append_reply(Connection *connection, Buffer *out, const Client__Reply *reply) {
        size_t before = out->size;

        if (codec_append(out, connection->codec, reply) < 0) {
                buffer_done(out);
                connection_disconnect(connection, DISCONNECT_SERVER_ERROR);
                return -ECONNRESET;
        }
        if (reply->id == 0 || out->size - before <= CONNECTION_MAX_REPLY)
                return 0;
        ProtocolError limit = PROTOCOL_ERROR_LIMIT_EXCEEDED;
        Client__Error error = CLIENT__ERROR__INIT;
        Client__Reply refusal = CLIENT__REPLY__INIT;

        out->size = before;
        error.code = limit.code;
        error.message = (char *) "limit_exceeded: the answer is too large, ask for less at a time";
        refusal.id = reply->id;
        refusal.error = &error;
        return codec_append(out, connection->codec, &refusal);
}

int connection_reply(Connection *connection, const Client__Reply *reply) {
        SocketRole *role = connection->role;
        _cleanup_buffer_ Buffer single = {};

        if (connection->state == CONNECTION_CLOSING)
                return -ECONNRESET;
        if (role->batch != connection) {
                int r = append_reply(connection, &single, reply);
                return r < 0 ? r : send_buffer(connection, &single);
        }
        int r = append_reply(connection, &role->batch_buffer, reply);
        if (r < 0)
                return r;
        return role->batch_buffer.size >= BATCH_SIZE ? flush_batch(connection) : 0;
}

void connection_reply_error(Connection *connection, uint32_t id, ProtocolError what, const char *detail) {
        Client__Error error = CLIENT__ERROR__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;
        char message[256];

        if (id == 0)
                return;
        snprintf(message, sizeof(message), isempty(detail) ? "%s%s" : "%s: %s", what.name, strempty(detail));
        error.code = what.code;
        error.message = message;
        error.temporary = what.temporary;
        reply.id = id;
        reply.error = &error;
        connection->role->statistics.refusals++;
        (void) connection_reply(connection, &reply);
}
