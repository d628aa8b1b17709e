/* SPDX-License-Identifier: Apache-2.0 */

/* Connecting has three steps: the token is verified, by a thread, the api role is asked whether its session is in
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
/* In the reply, beside those whose position the client gave. */
#define CONNECT_MAX_SUBSCRIPTIONS 1000U

/* Where the client stands in a conversation that it knows from an earlier connection. */
typedef struct ConnectPosition {
        const char *conversation, *epoch;
        uint64_t offset;
} ConnectPosition;

/* A connect or refresh command under way. Lives until the last answer it waits for. */
struct ConnectCommand {
        Connection *connection; /* NULL: it ended */
        uint32_t id;
        bool refresh;
        bool attaching; /* then the connection owns it, before that the call that is under way */
        int64_t expires_at; /* of the token, Unix time in seconds */
        Arena arena; /* of the positions */
        ConnectPosition *positions; /* by conversation */
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

static int connect_command_new(ConnectCommand **ret, Connection *connection, uint32_t id) {
        ConnectCommand *command = new0(ConnectCommand, 1);
        if (!command)
                return -ENOMEM;
        arena_init(&command->arena, COMMAND_ARENA_LIMIT);
        command->connection = connection;
        command->id = id;
        connection->connect_command = command;
        *ret = command;
        return 0;
}

/* Sets when the connection expires; the seconds until then. */
static uint32_t set_expiry(Connection *connection, int64_t expires_at) {
        int64_t ttl = expires_at - unix_msec() / 1000;

        ttl = MIN(MAX(ttl, 1), INT32_MAX);
        connection->expires_at = timer_wheel_clock() + (uint32_t) ttl;
        return (uint32_t) ttl;
}

/* --- the connect reply --- */

static int compare_positions(const void *a, const void *b) {
        const ConnectPosition *left = a, *right = b;
        return strcmp(left->conversation, right->conversation);
}

static const ConnectPosition *find_position(const ConnectCommand *command, const char *conversation) {
        const ConnectPosition key = {.conversation = conversation};
        return bsearch(&key, command->positions, command->n_positions, sizeof(key), compare_positions);
}

/* The client goes on from its position, if there is not too much behind it: what it missed follows as if it came
 * just now. */
static bool recover(Subscription *subscription, const ConnectPosition *position) {
        const Channel *channel = subscription->channel;
        uint64_t max = subscription->connection->role->conf->group_max_recovery;

        if (!streq(position->epoch, channel->epoch) || position->offset > channel->top ||
                channel->top - position->offset > max)
                return false;
        subscription->position = position->offset;
        return true;
}

static Client__SubscribeResult *subscribe_result(
        Arena *arena, Subscription *subscription, const ConnectPosition *position) {
        Client__SubscribeResult *result = arena_new(arena, Client__SubscribeResult, 1);

        if (!result)
                return NULL;
        client__subscribe_result__init(result);
        if (position) {
                result->was_recovering = true;
                result->recovered = recover(subscription, position);
        }
        subscription_set_announced(subscription);
        result->recoverable = result->positioned = subscription->recoverable;
        result->epoch = subscription->channel->epoch;
        result->offset = subscription->position;
        return result;
}

/* The first ones of the connection are in the reply, and those whose position the client gave: an SDK takes one
 * that is missing for ended. It is told of the others afterwards. */
static int add_subscriptions(
        Connection *connection, const ConnectCommand *command, Arena *arena, Client__ConnectResult *result) {
        Subscription *subscription;
        size_t n_new = 0;

        result->subs = arena_new(arena, Client__ConnectResult__SubsEntry *,
                CONNECT_MAX_SUBSCRIPTIONS + command->n_positions + 1);
        if (!result->subs)
                return -ENOMEM;
        TAILQ_FOREACH(subscription, &connection->subscriptions, in_connection) {
                const ConnectPosition *position =
                        find_position(command, subscription->channel->conversation);
                if (!position && n_new++ >= CONNECT_MAX_SUBSCRIPTIONS)
                        continue;
                Client__ConnectResult__SubsEntry *entry =
                        arena_new(arena, Client__ConnectResult__SubsEntry, 1);
                if (!entry)
                        return -ENOMEM;
                client__connect_result__subs_entry__init(entry);
                entry->key = subscription->channel->conversation;
                entry->value = subscribe_result(arena, subscription, position);
                if (!entry->value)
                        return -ENOMEM;
                result->subs[result->n_subs++] = entry;
        }
        return 0;
}

static int reply_connect(Connection *connection, const ConnectCommand *command) {
        Client__ConnectResult result = CLIENT__CONNECT_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;
        _cleanup_arena_ Arena arena;

        arena_init(&arena, CONNECT_ARENA_LIMIT);
        int r = add_subscriptions(connection, command, &arena, &result);
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
        subscriptions_free(connection);
        connection_reopen(connection);
}

static void on_attached(Connection *connection, Sc__ErrorCode code, const char *detail) {
        _cleanup_(connect_command_freep) ConnectCommand *command = connection->connect_command;

        command->attaching = false;
        if (code == ERROR_SESSION_REVOKED)
                return connection_disconnect(connection, DISCONNECT_SESSION_REVOKED);
        if (code != ERROR_NONE)
                return connect_failed(connection, command->id, code, detail);
        int r = reply_connect(connection, command);
        if (r < 0) /* does nothing if it is disconnected already */
                return connection_disconnect(connection, DISCONNECT_SERVER_ERROR);
        log_debug("Connection %s of user %s", connection->client, connection_user(connection));
        connection_connected(connection);
        connection_catch_up(connection);
}

static void attach(ConnectCommand *command) {
        Connection *connection = command->connection;

        command->attaching = true;
        if (gateway_attach(connection->role->gateway, connection, on_attached) < 0)
                on_attached(connection, ERROR_OVERLOADED, NULL);
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
        Sc__Caller caller = SC__CALLER__INIT;
        Trace trace;

        trace_begin(NULL, &trace);
        charge_trace(connection->role->charges, connection_user(connection),
                websocket_address(connection->socket), &trace);
        /* So that users take turns where many wait. */
        caller.user = (char *) connection_user(connection);
        request.user = (char *) connection_user(connection);
        request.session = (char *) connection_session(connection);
        log_trace(&trace, (.user = request.user), "%s of connection %s",
                command->refresh ? "Token refresh" : "Connect command", connection->client);
        int r = dispatcher_call(connection->role->process->dispatcher, &method_session_check, &request.base,
                &trace, &caller, on_checked, command);
        if (r < 0)
                on_checked(NULL, ERROR_OVERLOADED, NULL, NULL, command);
}

static int copy_positions(ConnectCommand *command, const Client__ConnectRequest *request) {
        Arena *arena = &command->arena;

        command->positions = arena_new(arena, ConnectPosition, request->n_subs + 1);
        if (!command->positions)
                return -ENOMEM;
        for (size_t i = 0; i < request->n_subs; i++) {
                const Client__SubscribeRequest *sub = request->subs[i]->value;
                ConnectPosition *position = &command->positions[command->n_positions];

                if (!sub || !sub->recover)
                        continue;
                position->conversation = arena_strdup(arena, request->subs[i]->key);
                position->epoch = arena_strdup(arena, sub->epoch);
                position->offset = sub->offset;
                if (!position->conversation || !position->epoch)
                        return -ENOMEM;
                command->n_positions++;
        }
        qsort(command->positions, command->n_positions, sizeof(*command->positions), compare_positions);
        return 0;
}

/* --- the token --- */

static void refuse_token(ConnectCommand *command, Sc__ErrorCode code) {
        Connection *connection = command->connection;

        if (code == ERROR_UNAUTHENTICATED)
                connection_disconnect(connection, DISCONNECT_INVALID_TOKEN);
        else if (command->refresh) /* expired: the client gets a new one and tries again */
                connection_reply_error(connection, command->id, protocol_error(code), NULL);
        else
                connect_failed(connection, command->id, code, NULL);
}

static void on_token(Sc__ErrorCode code, const TokenClaims *claims, void *userdata) {
        _cleanup_(connect_command_freep) ConnectCommand *command = userdata;
        Connection *connection = command->connection;

        if (!connection)
                return;
        if (code != ERROR_NONE)
                return refuse_token(command, code);
        command->expires_at = claims->expires_at;
        if (command->refresh) {
                if (!streq(claims->user, connection_user(connection)) ||
                        !streq(claims->session, connection_session(connection)))
                        return connection_disconnect(connection, DISCONNECT_INVALID_TOKEN);
        } else {
                int r = connection_set_identity(connection, claims);
                if (r < 0)
                        return connection_disconnect(connection,
                                r == -EUSERS ? DISCONNECT_CONNECTION_LIMIT : DISCONNECT_SERVER_ERROR);
        }
        connection->token_key = claims->key;
        check_session(TAKE_PTR(command));
}

/* on_token() frees the command. */
static void check_token(ConnectCommand *command, const char *token) {
        SocketRole *role = command->connection->role;

        if (isempty(token))
                on_token(ERROR_UNAUTHENTICATED, NULL, command);
        else if (token_verifier_start(role->token_verifier, token, on_token, command) < 0)
                on_token(ERROR_OVERLOADED, NULL, command);
}

void command_connect(Connection *connection, uint32_t id, const Client__ConnectRequest *request) {
        _cleanup_(connect_command_freep) ConnectCommand *command = NULL;

        int r = connect_command_new(&command, connection, id);
        if (r >= 0)
                r = copy_positions(command, request);
        if (r < 0)
                return connection_disconnect(connection, DISCONNECT_SERVER_ERROR);
        connection->state = CONNECTION_CONNECTING;
        check_token(TAKE_PTR(command), request->token);
}

void command_refresh(Connection *connection, uint32_t id, const Client__RefreshRequest *request) {
        ConnectCommand *command;

        if (connection->connect_command)
                return connection_reply_error(
                        connection, id, protocol_error(ERROR_RATE_LIMITED), "a refresh is under way");
        if (connect_command_new(&command, connection, id) < 0)
                return connection_reply_error(connection, id, protocol_error(ERROR_OVERLOADED), NULL);
        command->refresh = true;
        check_token(command, request->token);
}
