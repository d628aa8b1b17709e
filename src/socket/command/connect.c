/* SPDX-License-Identifier: Apache-2.0 */

/* Connecting has three steps: the token is verified here, the api role is asked whether its session is in
 * force, and the group primaries attach the user's conversations. Then the client gets all of these in one
 * reply. Refreshing is the first two steps again. */
#include "socket/command/connect.h"

#include "schema-tables.h"
#include "socket/channel/channel.h"
#include "socket/connection/receive.h"
#include "socket/gateway/gateway.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define CONNECT_ARENA_LIMIT (32U << 20)

/* A connect or refresh command under way. Lives until the last answer it waits for. */
struct ConnectCommand {
        Connection *connection; /* NULL: it ended */
        uint32_t id;
        bool refresh;
        bool attaching; /* then the connection owns it, before that the call that is under way */
        int64_t expires_at; /* of the token, Unix time in seconds */
        Arena arena; /* of the positions */
        Sc__Position **positions;
        size_t n_positions;
};

static ConnectCommand *connect_command_free(ConnectCommand *command) {
        if (!command)
                return NULL;
        if (command->connection)
                command->connection->connect_command = NULL;
        arena_done(&command->arena);
        free(command);
        return NULL;
}
DEFINE_CLEANUP(ConnectCommand *, connect_command_free);

void connect_abandon(Connection *connection) {
        ConnectCommand *command = TAKE_PTR(connection->connect_command);

        if (!command)
                return;
        command->connection = NULL;
        if (command->attaching)
                connect_command_free(command);
}

static int connect_command_new(
        ConnectCommand **ret, Connection *connection, uint32_t id, const TokenClaims *claims) {
        ConnectCommand *command = new0(ConnectCommand, 1);
        if (!command)
                return -ENOMEM;
        arena_init(&command->arena, COMMAND_ARENA_LIMIT);
        command->connection = connection;
        command->id = id;
        command->expires_at = claims->expires_at;
        connection->connect_command = command;
        *ret = command;
        return 0;
}

/* True if the token is good; otherwise the command was refused. */
static bool check_token(Connection *connection, uint32_t id, const char *token, TokenClaims *ret) {
        Sc__ErrorCode code = isempty(token)
                                     ? ERROR_UNAUTHENTICATED
                                     : token_verify(connection->role->key, token, unix_msec() / 1000, ret);

        if (code == ERROR_NONE)
                return true;
        if (code == ERROR_TOKEN_EXPIRED) /* the client gets a new one and tries again */
                connection_reply_error(connection, id, protocol_error(code), NULL);
        else
                connection_disconnect(connection, DISCONNECT_INVALID_TOKEN);
        return false;
}

/* Sets when the connection expires; the seconds until then. */
static uint32_t set_expiry(Connection *connection, int64_t expires_at) {
        int64_t ttl = expires_at - unix_msec() / 1000;

        ttl = MIN(MAX(ttl, 1), INT32_MAX);
        connection->expires_at = timer_wheel_clock() + (uint32_t) ttl;
        return (uint32_t) ttl;
}

/* --- the connect reply --- */

/* One conversation in the reply. Recovered messages that do not fit into *room bytes are left out, and the
 * client is told to page through the history. */
static Client__SubscribeResult *subscribe_result(Arena *arena, const Sc__Subscription *from, size_t *room) {
        Client__SubscribeResult *result = arena_new(arena, Client__SubscribeResult, 1);
        size_t size = 0;

        if (!result)
                return NULL;
        client__subscribe_result__init(result);
        result->recoverable = result->positioned = true;
        result->epoch = from->epoch;
        result->offset = from->last_seq;
        result->was_recovering = from->recovering;
        if (!from->recovered)
                return result;
        result->publications = arena_new(arena, Client__Publication *, from->n_messages + 1);
        if (!result->publications)
                return NULL;
        for (size_t i = 0; i < from->n_messages; i++) {
                Sc__Update update = SC__UPDATE__INIT;
                update.what_case = SC__UPDATE__WHAT_MESSAGE;
                update.message = from->messages[i];
                Client__Publication *publication = publication_of(arena, &update);
                if (!publication)
                        return NULL;
                size += client__publication__get_packed_size(publication);
                if (size > *room) {
                        result->n_publications = 0;
                        return result;
                }
                result->publications[result->n_publications++] = publication;
        }
        *room -= size;
        result->recovered = true;
        return result;
}

/* Subscribes the connection to one conversation and adds that to the reply. */
static int add_subscription(Connection *connection, Arena *arena, const Sc__Subscription *from, size_t *room,
        Client__ConnectResult *result) {
        if (subscription_find(connection, from->conversation))
                return 0;
        Client__ConnectResult__SubsEntry *entry = arena_new(arena, Client__ConnectResult__SubsEntry, 1);
        if (!entry)
                return -ENOMEM;
        client__connect_result__subs_entry__init(entry);
        entry->key = from->conversation;
        entry->value = subscribe_result(arena, from, room);
        if (!entry->value)
                return -ENOMEM;
        result->subs[result->n_subs++] = entry;
        return subscription_new(NULL, connection, from->conversation, from->epoch, from->last_seq);
}

static int add_subscriptions(Connection *connection, Arena *arena, Sc__AttachResponse *const *responses,
        size_t n_responses, Client__ConnectResult *result) {
        size_t room = CONNECTION_MAX_REPLY / 2, n = 1;

        for (size_t i = 0; i < n_responses; i++)
                n += responses[i]->n_subscriptions;
        result->subs = arena_new(arena, Client__ConnectResult__SubsEntry *, n);
        if (!result->subs)
                return -ENOMEM;
        for (size_t i = 0; i < n_responses; i++)
                for (size_t k = 0; k < responses[i]->n_subscriptions; k++) {
                        int r = add_subscription(
                                connection, arena, responses[i]->subscriptions[k], &room, result);
                        if (r < 0)
                                return r;
                }
        return 0;
}

static int reply_connect(Connection *connection, const ConnectCommand *command,
        Sc__AttachResponse *const *responses, size_t n_responses) {
        Client__ConnectResult result = CLIENT__CONNECT_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;
        _cleanup_arena_ Arena arena;

        arena_init(&arena, CONNECT_ARENA_LIMIT);
        int r = add_subscriptions(connection, &arena, responses, n_responses, &result);
        if (r < 0)
                return r;
        result.client = connection->client;
        result.version = (char *) "Stonechat " STONECHAT_VERSION;
        result.expires = true;
        result.ttl = set_expiry(connection, command->expires_at);
        result.ping = (uint32_t) MAX(connection->role->conf->socket_ping_interval_usec / USEC_PER_SEC, 1ULL);
        result.pong = true;
        reply.id = command->id;
        reply.result_case = CLIENT__REPLY__RESULT_CONNECT;
        reply.connect = &result;
        return connection_reply(connection, &reply);
}

/* --- connecting, step by step --- */

/* The client may try again, on this connection or a new one. */
static void connect_failed(Connection *connection, uint32_t id, Sc__ErrorCode code, const char *detail) {
        connection_reply_error(connection, id, protocol_error(code), detail);
        /* A primary may have attached it all the same, only too late. */
        gateway_detach(connection->role->gateway, connection);
        connection_reopen(connection);
}

static void on_attached(Connection *connection, Sc__ErrorCode code, const char *detail,
        Sc__AttachResponse *const *responses, size_t n_responses) {
        _cleanup_(connect_command_freep) ConnectCommand *command = connection->connect_command;

        command->attaching = false;
        if (code == ERROR_SESSION_REVOKED)
                return connection_disconnect(connection, DISCONNECT_SESSION_REVOKED);
        if (code != ERROR_NONE)
                return connect_failed(connection, command->id, code, detail);
        int r = reply_connect(connection, command, responses, n_responses);
        if (r < 0) /* does nothing if it is disconnected already */
                return connection_disconnect(connection, DISCONNECT_SERVER_ERROR);
        log_debug("Connection %s of user %s", connection->client, connection_user(connection));
        connection_connected(connection);
}

static void attach(ConnectCommand *command) {
        Connection *connection = command->connection;

        command->attaching = true;
        int r = gateway_attach(connection->role->gateway, connection, command->positions,
                command->n_positions, on_attached);
        if (r < 0)
                on_attached(connection, ERROR_OVERLOADED, NULL, NULL, 0);
}

static void refreshed(ConnectCommand *command) {
        Connection *connection = command->connection;
        Client__RefreshResult result = CLIENT__REFRESH_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        result.client = connection->client;
        result.version = (char *) "Stonechat " STONECHAT_VERSION;
        result.expires = true;
        result.ttl = set_expiry(connection, command->expires_at);
        connection_arm(connection);
        reply.id = command->id;
        reply.result_case = CLIENT__REPLY__RESULT_REFRESH;
        reply.refresh = &result;
        connect_command_free(command);
        (void) connection_reply(connection, &reply);
}

static void on_checked(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        _cleanup_(connect_command_freep) ConnectCommand *command = userdata;
        Connection *connection = command->connection;

        if (!connection)
                return;
        if (code != ERROR_NONE) {
                if (command->refresh)
                        connection_reply_error(connection, command->id, protocol_error(code), detail);
                else
                        connect_failed(connection, command->id, code, detail);
        } else if (!((const Sc__SessionCheckResponse *) response)->active)
                connection_disconnect(connection, DISCONNECT_SESSION_REVOKED);
        else if (command->refresh)
                refreshed(TAKE_PTR(command));
        else
                attach(TAKE_PTR(command));
}

/* Asks whether the session is in force; on_checked() frees the command. */
static void check_session(ConnectCommand *command) {
        Connection *connection = command->connection;
        Sc__SessionCheckRequest request = SC__SESSION_CHECK_REQUEST__INIT;
        Trace trace;

        trace_begin(NULL, connection->role->conf->log_trace_rate, &trace);
        request.user = (char *) connection_user(connection);
        request.session = (char *) connection_session(connection);
        log_trace(&trace, (.user = request.user), "%s of connection %s",
                command->refresh ? "Token refresh" : "Connect command", connection->client);
        int r = dispatcher_call(connection->role->process->dispatcher, &method_session_check, &request.base,
                &trace, NULL, on_checked, command);
        if (r < 0)
                on_checked(NULL, ERROR_OVERLOADED, NULL, NULL, command);
}

static int copy_positions(ConnectCommand *command, const Client__ConnectRequest *request) {
        Arena *arena = &command->arena;

        command->positions = arena_new(arena, Sc__Position *, request->n_subs + 1);
        if (!command->positions)
                return -ENOMEM;
        for (size_t i = 0; i < request->n_subs; i++) {
                const Client__SubscribeRequest *sub = request->subs[i]->value;
                Sc__Position *position;

                if (!sub || !sub->recover)
                        continue;
                position = arena_new(arena, Sc__Position, 1);
                if (!position)
                        return -ENOMEM;
                sc__position__init(position);
                position->conversation = arena_strdup(arena, request->subs[i]->key);
                position->epoch = arena_strdup(arena, sub->epoch);
                position->seq = sub->offset;
                if (!position->conversation || !position->epoch)
                        return -ENOMEM;
                command->positions[command->n_positions++] = position;
        }
        return 0;
}

void command_connect(Connection *connection, uint32_t id, const Client__ConnectRequest *request) {
        _cleanup_(connect_command_freep) ConnectCommand *command = NULL;
        TokenClaims claims;

        if (!check_token(connection, id, request->token, &claims))
                return;
        int r = connection_set_identity(connection, &claims);
        if (r >= 0)
                r = connect_command_new(&command, connection, id, &claims);
        if (r >= 0)
                r = copy_positions(command, request);
        if (r < 0)
                return connection_disconnect(
                        connection, r == -EUSERS ? DISCONNECT_CONNECTION_LIMIT : DISCONNECT_SERVER_ERROR);
        connection->state = CONNECTION_CONNECTING;
        check_session(TAKE_PTR(command));
}

void command_refresh(Connection *connection, uint32_t id, const Client__RefreshRequest *request) {
        ConnectCommand *command;
        TokenClaims claims;

        if (!check_token(connection, id, request->token, &claims))
                return;
        if (!streq(claims.user, connection_user(connection)) ||
                !streq(claims.session, connection_session(connection)))
                return connection_disconnect(connection, DISCONNECT_INVALID_TOKEN);
        if (connection->connect_command)
                return connection_reply_error(
                        connection, id, protocol_error(ERROR_RATE_LIMITED), "a refresh is under way");
        if (connect_command_new(&command, connection, id, &claims) < 0)
                return connection_reply_error(connection, id, protocol_error(ERROR_OVERLOADED), NULL);
        command->refresh = true;
        check_session(command);
}
