/* SPDX-License-Identifier: Apache-2.0 */

/* Connecting: the token is verified here, the session asked for at the api role, the user's conversations
 * attached at the group primaries; then the client gets them all in one reply. Refreshing is the first two
 * steps again. */

#include "schema-tables.h"
#include "socket/commands.h"
#include "socket/socket-role.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define CONNECT_ARENA_LIMIT (32U << 20)

/* A connect or refresh command under way. Lives until the last answer it waits for; the session may go
 * before. */
struct Connecting {
        Session *session; /* NULL: gone */
        uint32_t id;
        bool refresh;
        bool attaching; /* the session owns it, otherwise the call that is out */
        int64_t expires_at; /* of the token, Unix time in seconds */
        Arena arena; /* of the positions */
        Sc__Position **positions;
        size_t n_positions;
};

static Connecting *connecting_free(Connecting *connecting) {
        if (!connecting)
                return NULL;
        if (connecting->session)
                connecting->session->connecting = NULL;
        arena_done(&connecting->arena);
        free(connecting);
        return NULL;
}
DEFINE_CLEANUP(Connecting *, connecting_free);

void connecting_abandon(Session *session) {
        Connecting *connecting = TAKE_PTR(session->connecting);

        if (!connecting)
                return;
        connecting->session = NULL;
        if (connecting->attaching)
                connecting_free(connecting);
}

static int connecting_new(Connecting **ret, Session *session, uint32_t id, const TokenClaims *claims) {
        Connecting *connecting = new0(Connecting, 1);
        if (!connecting)
                return -ENOMEM;
        arena_init(&connecting->arena, COMMAND_ARENA_LIMIT);
        connecting->session = session;
        connecting->id = id;
        connecting->expires_at = claims->expires_at;
        session->connecting = connecting;
        *ret = connecting;
        return 0;
}

/* True if the token is good; otherwise the command was refused. */
static bool check_token(Session *session, uint32_t id, const char *token, TokenClaims *ret) {
        Sc__ErrorCode code = isempty(token)
                                     ? ERROR_UNAUTHENTICATED
                                     : token_verify(session->role->key, token, unix_msec() / 1000, ret);

        if (code == ERROR_NONE)
                return true;
        if (code == ERROR_TOKEN_EXPIRED) /* the client gets a new one and tries again */
                session_reply_error(session, id, protocol_error(code), NULL);
        else
                session_disconnect(session, DISCONNECT_INVALID_TOKEN);
        return false;
}

/* Sets when the connection expires; the seconds until then. */
static uint32_t set_expiry(Session *session, int64_t expires_at) {
        int64_t ttl = expires_at - unix_msec() / 1000;

        ttl = MIN(MAX(ttl, 1), INT32_MAX);
        session->expires_at = wheel_clock() + (uint32_t) ttl;
        return (uint32_t) ttl;
}

/* --- the connect reply --- */

/* One conversation in the reply. What of the recovered messages does not fit into *room any more the client
 * has to page through. */
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

/* Subscribes the session to one conversation and adds it to the reply. */
static int add_subscription(Session *session, Arena *arena, const Sc__Subscription *from, size_t *room,
        Client__ConnectResult *result) {
        if (session_subscription(session, from->conversation))
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
        return subscription_new(NULL, session, from->conversation, from->epoch, from->last_seq);
}

static int add_subscriptions(Session *session, Arena *arena, Sc__AttachResponse *const *responses,
        size_t n_responses, Client__ConnectResult *result) {
        size_t room = SESSION_MAX_REPLY / 2, n = 1;

        for (size_t i = 0; i < n_responses; i++)
                n += responses[i]->n_subscriptions;
        result->subs = arena_new(arena, Client__ConnectResult__SubsEntry *, n);
        if (!result->subs)
                return -ENOMEM;
        for (size_t i = 0; i < n_responses; i++)
                for (size_t k = 0; k < responses[i]->n_subscriptions; k++) {
                        int r = add_subscription(
                                session, arena, responses[i]->subscriptions[k], &room, result);
                        if (r < 0)
                                return r;
                }
        return 0;
}

static int reply_connect(Session *session, const Connecting *connecting,
        Sc__AttachResponse *const *responses, size_t n_responses) {
        Client__ConnectResult result = CLIENT__CONNECT_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;
        _cleanup_arena_ Arena arena;

        arena_init(&arena, CONNECT_ARENA_LIMIT);
        int r = add_subscriptions(session, &arena, responses, n_responses, &result);
        if (r < 0)
                return r;
        result.client = session->client;
        result.version = (char *) "Stonechat " STONECHAT_VERSION;
        result.expires = true;
        result.ttl = set_expiry(session, connecting->expires_at);
        result.ping = (uint32_t) MAX(session->role->conf->socket_ping_interval_usec / USEC_PER_SEC, 1ULL);
        result.pong = true;
        reply.id = connecting->id;
        reply.result_case = CLIENT__REPLY__RESULT_CONNECT;
        reply.connect = &result;
        return session_reply(session, &reply);
}

/* --- connecting, step by step --- */

/* Back to where the client may try again, on this connection or a new one. */
static void connect_failed(Session *session, uint32_t id, Sc__ErrorCode code, const char *detail) {
        session_reply_error(session, id, protocol_error(code), detail);
        session_reopen(session);
}

static void on_attached(Session *session, Sc__ErrorCode code, const char *detail,
        Sc__AttachResponse *const *responses, size_t n_responses) {
        _cleanup_(connecting_freep) Connecting *connecting = session->connecting;

        connecting->attaching = false;
        if (code != ERROR_NONE) {
                connect_failed(session, connecting->id, code, detail);
                return;
        }
        int r = reply_connect(session, connecting, responses, n_responses);
        if (r == -ECONNRESET)
                return;
        if (r < 0) {
                session_disconnect(session, DISCONNECT_SERVER_ERROR);
                return;
        }
        log_debug("Connection %s of user %s", session->client, session_user(session));
        session_connected(session);
}

static void attach(Connecting *connecting) {
        Session *session = connecting->session;

        connecting->attaching = true;
        int r = gateway_attach(session->role->gateway, session, connecting->positions,
                connecting->n_positions, on_attached);
        if (r < 0)
                on_attached(session, ERROR_OVERLOADED, NULL, NULL, 0);
}

static void refreshed(Connecting *connecting) {
        Session *session = connecting->session;
        Client__RefreshResult result = CLIENT__REFRESH_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        result.client = session->client;
        result.version = (char *) "Stonechat " STONECHAT_VERSION;
        result.expires = true;
        result.ttl = set_expiry(session, connecting->expires_at);
        session_arm(session);
        reply.id = connecting->id;
        reply.result_case = CLIENT__REPLY__RESULT_REFRESH;
        reply.refresh = &result;
        connecting_free(connecting);
        (void) session_reply(session, &reply);
}

static void on_checked(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        _cleanup_(connecting_freep) Connecting *connecting = userdata;
        Session *session = connecting->session;

        if (!session)
                return;
        if (code != ERROR_NONE) {
                if (connecting->refresh)
                        session_reply_error(session, connecting->id, protocol_error(code), detail);
                else
                        connect_failed(session, connecting->id, code, detail);
        } else if (!((const Sc__SessionCheckResponse *) response)->active)
                session_disconnect(session, DISCONNECT_SESSION_REVOKED);
        else if (connecting->refresh)
                refreshed(TAKE_PTR(connecting));
        else
                attach(TAKE_PTR(connecting));
}

/* Is the session still in force? on_checked() frees the Connecting. */
static void check_session(Connecting *connecting) {
        Session *session = connecting->session;
        Sc__SessionCheckRequest request = SC__SESSION_CHECK_REQUEST__INIT;
        Trace trace;

        trace_begin(NULL, session->role->conf->log_trace_rate, &trace);
        request.user = (char *) session_user(session);
        request.session = (char *) session_id(session);
        log_trace(&trace, (.user = request.user), "%s of connection %s",
                connecting->refresh ? "Token refresh" : "Connect command", session->client);
        int r = dispatcher_call(session->role->process->dispatcher, &method_session_check, &request.base,
                &trace, NULL, on_checked, connecting);
        if (r < 0)
                on_checked(NULL, ERROR_OVERLOADED, NULL, NULL, connecting);
}

static int copy_positions(Connecting *connecting, const Client__ConnectRequest *request) {
        Arena *arena = &connecting->arena;

        connecting->positions = arena_new(arena, Sc__Position *, request->n_subs + 1);
        if (!connecting->positions)
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
                connecting->positions[connecting->n_positions++] = position;
        }
        return 0;
}

static int set_identity(Session *session, const TokenClaims *claims) {
        size_t n = strlen(claims->session) + 1, m = strlen(claims->device) + 1;
        char *identity = malloc(n + m);

        if (!identity)
                return -ENOMEM;
        memcpy(identity, claims->session, n);
        memcpy(identity + n, claims->device, m);
        free(session->identity);
        session->identity = identity;
        return session_set_user(session, claims->user);
}

void command_connect(Session *session, uint32_t id, const Client__ConnectRequest *request) {
        _cleanup_(connecting_freep) Connecting *connecting = NULL;
        TokenClaims claims;

        if (!check_token(session, id, request->token, &claims))
                return;
        int r = set_identity(session, &claims);
        if (r >= 0)
                r = connecting_new(&connecting, session, id, &claims);
        if (r >= 0)
                r = copy_positions(connecting, request);
        if (r < 0) {
                session_disconnect(
                        session, r == -EUSERS ? DISCONNECT_CONNECTION_LIMIT : DISCONNECT_SERVER_ERROR);
                return;
        }
        session->state = SESSION_CONNECTING;
        check_session(TAKE_PTR(connecting));
}

void command_refresh(Session *session, uint32_t id, const Client__RefreshRequest *request) {
        Connecting *connecting;
        TokenClaims claims;

        if (!check_token(session, id, request->token, &claims))
                return;
        if (!streq(claims.user, session_user(session)) || !streq(claims.session, session_id(session))) {
                session_disconnect(session, DISCONNECT_INVALID_TOKEN);
                return;
        }
        if (session->connecting) {
                session_reply_error(
                        session, id, protocol_error(ERROR_RATE_LIMITED), "a refresh is under way");
                return;
        }
        if (connecting_new(&connecting, session, id, &claims) < 0) {
                session_reply_error(session, id, protocol_error(ERROR_OVERLOADED), NULL);
                return;
        }
        connecting->refresh = true;
        check_session(connecting);
}
