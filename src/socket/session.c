/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/session.h"

#include <stdio.h>

#include "log/message-ids.h"
#include "schema-tables.h"
#include "socket/commands.h"
#include "socket/socket-role.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* Replies that are collected are sent at the latest when they are this large. */
#define BATCH_SIZE (64U << 10)

static uint32_t seconds(uint64_t usec) {
        return (uint32_t) MAX(usec / USEC_PER_SEC, 1ULL);
}

int session_new(Session **ret, SocketRole *role, WebSocket *socket) {
        Session *session = new0(Session, 1);
        if (!session)
                return -ENOMEM;
        session->role = role;
        session->socket = socket;
        LIST_INIT(&session->subscriptions);
        LIST_INIT(&session->pending);
        LIST_INIT(&session->attachments);
        uuid_v7(session->client);
        TAILQ_INSERT_TAIL(&role->sessions, session, in_role);
        role->n_sessions++;
        role->statistics.connections_total++;
        wheel_set(&role->wheel, &session->wheel,
                wheel_clock() + seconds(role->conf->socket_handshake_timeout_usec));
        *ret = session;
        return 0;
}

const char *session_user(const Session *session) {
        return session->user ? session->user->id : "";
}

/* --- users --- */

User *user_find(SocketRole *role, const char *id) {
        User *user;

        HASH_FIND_STR(role->users, id, user);
        return user;
}

static User *user_new(SocketRole *role, const char *id) {
        size_t size = strlen(id) + 1;
        User *user = calloc(1, sizeof(User) + size);

        if (!user)
                return NULL;
        memcpy(user->id, id, size);
        TAILQ_INIT(&user->sessions);
        HASH_ADD_KEYPTR(hh, role->users, user->id, size - 1, user);
        return user->hh.tbl ? user : mfree(user);
}

int session_set_user(Session *session, const char *id) {
        SocketRole *role = session->role;
        User *user = user_find(role, id);
        uint64_t max = role->conf->socket_max_connections_per_user;

        if (user && max > 0 && user->n_sessions >= max)
                return -EUSERS;
        if (!user)
                user = user_new(role, id);
        if (!user)
                return -ENOMEM;
        TAILQ_INSERT_TAIL(&user->sessions, session, in_user);
        user->n_sessions++;
        session->user = user;
        return 0;
}

static void session_leave_user(Session *session) {
        User *user = TAKE_PTR(session->user);

        if (!user)
                return;
        TAILQ_REMOVE(&user->sessions, session, in_user);
        if (--user->n_sessions > 0)
                return;
        HASH_DEL(session->role->users, user);
        free(user);
}

void user_kick(SocketRole *role, const char *id, const char *session_wanted) {
        User *user = user_find(role, id);
        Session *next;

        for (Session *s = user ? TAILQ_FIRST(&user->sessions) : NULL; s; s = next) {
                next = TAILQ_NEXT(s, in_user);
                if (isempty(session_wanted) || streq(session_id(s), session_wanted))
                        session_disconnect(s, DISCONNECT_SESSION_REVOKED);
        }
}

/* --- the end --- */

static void drop_deferred(Session *session) {
        if (!session->deferred)
                return;
        buffer_done(session->deferred);
        session->deferred = mfree(session->deferred);
}

/* Takes the session out of everything that could reach it; only its WebSocket is left. */
static void session_retire(Session *session) {
        SocketRole *role = session->role;

        if (session->state == SESSION_CLOSING)
                return;
        if (session->state == SESSION_CONNECTED)
                role->n_connected--;
        session->state = SESSION_CLOSING;
        wheel_remove(&role->wheel, &session->wheel);
        gateway_detach(role->gateway, session);
        TAILQ_REMOVE(&role->sessions, session, in_role);
        while (!LIST_EMPTY(&session->subscriptions))
                subscription_free(LIST_FIRST(&session->subscriptions));
        commands_abandon(session);
        connecting_abandon(session);
        session_leave_user(session);
        drop_deferred(session);
}

void session_reopen(Session *session) {
        if (session->state == SESSION_CLOSING)
                return;
        session->state = SESSION_OPEN;
        /* A primary may have attached it all the same, only too late. */
        gateway_detach(session->role->gateway, session);
        session_leave_user(session);
        drop_deferred(session);
        wheel_set(&session->role->wheel, &session->wheel,
                wheel_clock() + seconds(session->role->conf->socket_handshake_timeout_usec));
}

static int flush_batch(Session *session);

void session_disconnect(Session *session, Disconnect why) {
        SocketRole *role = session->role;

        if (session->state == SESSION_CLOSING)
                return;
        /* What was answered before goes out before. */
        if (role->batch == session && flush_batch(session) < 0)
                return;
        log_debug("Connection %s ends: %u %s", session->client, why.code, why.reason);
        session_retire(session);
        websocket_close(session->socket, why.code, why.reason);
}

Session *session_free(Session *session) {
        if (!session)
                return NULL;
        SocketRole *role = session->role;
        if (role->batch == session) {
                role->batch = NULL;
                role->batch_buffer.size = 0;
        }
        session_retire(session);
        role->n_sessions--;
        free(session->identity);
        free(session);
        return NULL;
}

/* --- sending --- */

int session_send(Session *session, Bytes *message) {
        SocketRole *role = session->role;

        if (session->state == SESSION_CLOSING)
                return -ECONNRESET;
        /* The first message in the queue may be of any size (a long page, all that was missed) and does not
         * count. */
        size_t queued = websocket_queued(session->socket);
        if (queued == 0)
                session->allowance = (uint32_t) message->size;
        else if (queued + message->size > role->conf->socket_max_queue + session->allowance) {
                role->statistics.slow++;
                log_peer((.message_id = MESSAGE_ID_SLOW_CLIENT_CLOSED, .user = session_user(session)),
                        LOG_NOTICE, "A client does not read fast enough, closing its connection.");
                session_disconnect(session, DISCONNECT_SLOW);
                return -ECONNRESET;
        }
        if (websocket_send(session->socket, message, session->codec == CODEC_PROTOBUF) < 0) {
                session_retire(session);
                /* It is being closed, unless memory was all that it lacked. */
                websocket_close(
                        session->socket, DISCONNECT_SERVER_ERROR.code, DISCONNECT_SERVER_ERROR.reason);
                return -ECONNRESET;
        }
        return 0;
}

static int send_buffer(Session *session, Buffer *buffer) {
        _cleanup_(bytes_unrefp) Bytes *message = bytes_new_copy(buffer->data, buffer->size);

        buffer->size = 0;
        if (!message) {
                session_disconnect(session, DISCONNECT_SERVER_ERROR);
                return -ECONNRESET;
        }
        return session_send(session, message);
}

static int flush_batch(Session *session) {
        Buffer *batch = &session->role->batch_buffer;

        return batch->size > 0 ? send_buffer(session, batch) : 0;
}

void session_batch_begin(Session *session) {
        assert_se(!session->role->batch);
        session->role->batch = session;
}

void session_batch_end(Session *session) {
        SocketRole *role = session->role;

        (void) flush_batch(session);
        role->batch = NULL;
        role->batch_buffer.size = 0;
        if (role->batch_buffer.allocated > 4 * BATCH_SIZE)
                buffer_done(&role->batch_buffer);
}

static int append_reply(Session *session, Buffer *out, const Client__Reply *reply) {
        size_t before = out->size;

        if (codec_append(out, session->codec, reply) < 0) {
                buffer_done(out);
                session_disconnect(session, DISCONNECT_SERVER_ERROR);
                return -ECONNRESET;
        }
        if (reply->id == 0 || out->size - before <= SESSION_MAX_REPLY)
                return 0;
        ProtocolError limit = PROTOCOL_ERROR_LIMIT_EXCEEDED;
        Client__Error error = CLIENT__ERROR__INIT;
        Client__Reply refusal = CLIENT__REPLY__INIT;

        out->size = before;
        error.code = limit.code;
        error.message = (char *) "limit_exceeded: the answer is too large, ask for less at a time";
        refusal.id = reply->id;
        refusal.error = &error;
        return codec_append(out, session->codec, &refusal);
}

int session_reply(Session *session, const Client__Reply *reply) {
        SocketRole *role = session->role;
        _cleanup_buffer_ Buffer single = {};

        if (session->state == SESSION_CLOSING)
                return -ECONNRESET;
        if (role->batch != session) {
                int r = append_reply(session, &single, reply);
                return r < 0 ? r : send_buffer(session, &single);
        }
        int r = append_reply(session, &role->batch_buffer, reply);
        if (r < 0)
                return r;
        return role->batch_buffer.size >= BATCH_SIZE ? flush_batch(session) : 0;
}

void session_reply_error(Session *session, uint32_t id, ProtocolError what, const char *detail) {
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
        session->role->statistics.refusals++;
        (void) session_reply(session, &reply);
}

/* --- receiving --- */

/* Commands behind a connect wait until it is answered. */
static int defer_commands(Session *session, const CodecReader *rest) {
        if (rest->size == 0)
                return 0;
        if (!session->deferred) {
                session->deferred = new0(Buffer, 1);
                if (!session->deferred)
                        return -ENOMEM;
                session->deferred->limit = session->role->conf->socket_max_frame;
        }
        (void) buffer_append(session->deferred, rest->data, rest->size);
        if (session->codec == CODEC_JSON)
                (void) buffer_append(session->deferred, "\n", 1);
        return session->deferred->error;
}

/* The rate limit: refuses the command, and ends the connection of a client that pays no heed. */
static bool take_token(Session *session, uint32_t id) {
        SocketRole *role = session->role;

        role->statistics.commands++;
        if (token_bucket_take(&session->commands, (double) role->conf->socket_command_rate,
                    (double) role->conf->socket_command_burst, 1, boottime_usec())) {
                session->n_refused = 0;
                return true;
        }
        if (++session->n_refused > SESSION_MAX_REFUSED)
                session_disconnect(session, DISCONNECT_TOO_MANY_REQUESTS);
        else
                session_reply_error(session, id, protocol_error(ERROR_RATE_LIMITED), NULL);
        return false;
}

/* One command: 1, or 0 at the end. */
static int receive_command(Session *session, CodecReader *reader) {
        _cleanup_arena_ Arena arena;
        _cleanup_json_ json_t *data = NULL;
        Client__Command *command;
        JsonError error;
        uint32_t id;

        arena_init(&arena, COMMAND_ARENA_LIMIT);
        int r = codec_read(reader, &arena, &command, &data, &id, &error);
        if (r <= 0 && r != -EINVAL)
                return r;
        /* The pong that we asked for is free; others cost what every command costs. */
        bool is_pong = r > 0 && id == 0 && command->method_case == CLIENT__COMMAND__METHOD__NOT_SET &&
                       session->pong_by > 0;
        if (!is_pong && !take_token(session, id))
                return 1;
        if (r < 0)
                session_reply_error(session, id, protocol_error(error.code), error.detail);
        else
                command_handle(session, command, data);
        return 1;
}

static void receive_commands(Session *session, CodecReader *reader) {
        int r;

        do {
                if (session->state == SESSION_CLOSING)
                        return;
                r = session->state == SESSION_CONNECTING ? defer_commands(session, reader)
                                                         : receive_command(session, reader);
        } while (r > 0);
        if (r < 0)
                session_disconnect(session, DISCONNECT_BAD_REQUEST);
}

void session_receive(Session *session, const char *data, size_t size, bool binary) {
        CodecKind kind = binary ? CODEC_PROTOBUF : CODEC_JSON;

        if (session->state == SESSION_CLOSING)
                return;
        if (!session->codec_known) {
                session->codec = kind;
                session->codec_known = true;
        }
        if (session->codec != kind) {
                session_disconnect(session, DISCONNECT_BAD_REQUEST);
                return;
        }
        session_batch_begin(session);
        receive_commands(session, &(CodecReader){.kind = kind, .data = data, .size = size});
        session_batch_end(session);
}

void session_connected(Session *session) {
        const Conf *conf = session->role->conf;
        Buffer *deferred = TAKE_PTR(session->deferred);
        uint32_t interval = seconds(conf->socket_ping_interval_usec);
        uint32_t spread;

        session->state = SESSION_CONNECTED;
        session->role->n_connected++;
        /* The first ping comes early by up to half the interval, so that those who connected together do not
         * stay together. */
        random_bytes(&spread, sizeof(spread));
        session->ping_at = wheel_clock() + interval - spread % (interval / 2 + 1);
        session_arm(session);
        if (!deferred)
                return;
        session_batch_begin(session);
        receive_commands(session,
                &(CodecReader){
                        .kind = session->codec, .data = (char *) deferred->data, .size = deferred->size});
        session_batch_end(session);
        buffer_done(deferred);
        free(deferred);
}

/* --- deadlines --- */

void session_arm(Session *session) {
        uint32_t nearest = session->ping_at;

        if (session->pong_by > 0)
                nearest = MIN(nearest, session->pong_by);
        if (session->expires_at > 0)
                nearest = MIN(nearest, session->expires_at + SESSION_EXPIRY_GRACE);
        wheel_set(&session->role->wheel, &session->wheel, nearest);
}

void session_due(WheelEntry *entry, uint32_t now) {
        Session *session = CONTAINER_OF(entry, Session, wheel);
        SocketRole *role = session->role;

        if (session->state == SESSION_OPEN)
                return session_disconnect(session, DISCONNECT_STALE);
        if (session->state != SESSION_CONNECTED)
                return;
        if (session->expires_at > 0 && now >= session->expires_at + SESSION_EXPIRY_GRACE)
                return session_disconnect(session, DISCONNECT_EXPIRED);
        if (session->pong_by > 0 && now >= session->pong_by)
                return session_disconnect(session, DISCONNECT_NO_PONG);
        if (now >= session->ping_at) {
                if (session_send(session, role->ping[session->codec]) < 0)
                        return;
                session->ping_at = now + seconds(role->conf->socket_ping_interval_usec);
                if (session->pong_by == 0)
                        session->pong_by = now + seconds(role->conf->socket_pong_timeout_usec);
        }
        session_arm(session);
}
