/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/commands.h"

#include "proto/json.h"
#include "schema-tables.h"
#include "socket/socket-role.h"
#include "util/string-util.h"

/* The memory of one call: as much as an answer of the internal RPC may become when unpacked. */
#define CALL_ARENA_LIMIT (32U << 20)
#define HISTORY_MAX_LIMIT 1000

/* --- calling methods --- */

static int pending_new(Pending **ret, Session *session, uint32_t id, const MethodInfo *method,
        const Trace *trace, void (*succeeded)(Pending *pending, const ProtobufCMessage *response)) {
        Pending *pending = new0(Pending, 1);
        if (!pending)
                return -ENOMEM;
        pending->session = session;
        pending->id = id;
        pending->trace = *trace;
        pending->method = method;
        pending->succeeded = succeeded;
        LIST_INSERT_HEAD(&session->pending, pending, link);
        session->n_pending++;
        *ret = pending;
        return 0;
}

void commands_abandon(Session *session) {
        while (!LIST_EMPTY(&session->pending)) {
                Pending *pending = LIST_FIRST(&session->pending);
                LIST_REMOVE(pending, link);
                pending->session = NULL;
        }
        session->n_pending = 0;
}

static void on_answer(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        _cleanup_free_ Pending *pending = userdata;
        Session *session = pending->session;

        if (!session)
                return;
        LIST_REMOVE(pending, link);
        session->n_pending--;
        log_trace(&pending->trace,
                (.user = session_user(session), .method = pending->method->name,
                        .error = code == ERROR_NONE ? NULL : schema_error(code)->name),
                "Answering command %u", pending->id);
        if (code == ERROR_NONE)
                pending->succeeded(pending, response);
        else
                session_reply_error(session, pending->id, protocol_error(code), detail);
}

/* What a command becomes: a call on behalf of the session's user, and who waits for it. NULL after refusing
 * it. */
static Call *call_begin(Session *session, uint32_t id, const MethodInfo *method, const char *traceparent,
        void (*succeeded)(Pending *pending, const ProtobufCMessage *response), Pending **ret_pending) {
        Sc__Caller caller = SC__CALLER__INIT;
        _cleanup_(call_freep) Call *call = NULL;
        Pending *pending;
        Trace trace;

        if (session->n_pending >= SESSION_MAX_PENDING) {
                session_reply_error(session, id, protocol_error(ERROR_RATE_LIMITED),
                        "too many commands are waiting for their answer");
                return NULL;
        }
        trace_begin(traceparent, session->role->conf->log_trace_rate, &trace);
        caller.user = (char *) session_user(session);
        caller.session = (char *) session_id(session);
        caller.device = (char *) session_device(session);
        caller.client = session->client;
        call = call_new(method, CALL_ARENA_LIMIT, on_answer, NULL);
        if (!call || call_set_caller(call, &caller) < 0 ||
                !(call->address = arena_strdup(&call->arena, websocket_address(session->socket))) ||
                pending_new(&pending, session, id, method, &trace, succeeded) < 0) {
                session_reply_error(session, id, protocol_error(ERROR_OVERLOADED), NULL);
                return NULL;
        }
        call->trace = trace;
        call->userdata = pending;
        if (ret_pending)
                *ret_pending = pending;
        return TAKE_PTR(call);
}

static void call_dispatch(Session *session, Call *call, const char *conversation) {
        const Pending *pending = call->userdata;

        log_trace(&call->trace,
                (.user = session_user(session), .method = call->method->name, .conversation = conversation),
                "Command %u of connection %s", pending->id, session->client);
        dispatcher_dispatch(session->role->process->dispatcher, call);
}

/* The `data` of a command: an object, or nothing, which is an empty one. Parsed already, or a text. */
static json_t *command_data(Session *session, uint32_t id, ProtobufCBinaryData data, json_t *parsed) {
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
        session_reply_error(session, id, protocol_error(error.code), error.detail);
        return NULL;
}

/* Makes the request of the method from data; false after refusing it. */
static bool read_request(Call *call, const json_t *object) {
        JsonError error;

        int r = json_read_message(&call->arena, call->method->request, object, &call->request, &error);
        if (r >= 0)
                return true;
        if (r == -EINVAL)
                call_fail(call, error.code, "%s", error.detail);
        else
                call_fail_errno(call, r, "read the data");
        return false;
}

static void *request_new(Call *call) {
        call->request = arena_alloc0(&call->arena, call->method->request->descriptor->sizeof_message);
        if (!call->request) {
                call_fail_errno(call, -ENOMEM, "make the request");
                return NULL;
        }
        protobuf_c_message_init(call->method->request->descriptor, call->request);
        return call->request;
}

/* --- rpc and publish --- */

static void rpc_succeeded(Pending *pending, const ProtobufCMessage *response) {
        _cleanup_buffer_ Buffer data = {};
        Client__RPCResult result = CLIENT__RPCRESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        if (json_write_message(&data, pending->method->response, response) < 0) {
                session_reply_error(pending->session, pending->id, protocol_error(ERROR_OVERLOADED), NULL);
                return;
        }
        result.data.data = data.data;
        result.data.len = data.size;
        reply.id = pending->id;
        reply.result_case = CLIENT__REPLY__RESULT_RPC;
        reply.rpc = &result;
        (void) session_reply(pending->session, &reply);
}

static void handle_rpc(Session *session, uint32_t id, const Client__RPCRequest *request, json_t *parsed) {
        const MethodInfo *method = schema_find_method(request->method);

        if (!method || method->access != ACCESS_USER) {
                session_reply_error(session, id, protocol_error(ERROR_METHOD_NOT_FOUND), request->method);
                return;
        }
        json_t *data = command_data(session, id, request->data, parsed);
        if (!data)
                return;
        Call *call = call_begin(session, id, method, json_string_value(json_object_get(data, "traceparent")),
                rpc_succeeded, NULL);
        if (call) {
                (void) json_object_del(data, "traceparent");
                if (read_request(call, data))
                        call_dispatch(
                                session, call, json_string_value(json_object_get(data, "conversation")));
        }
        json_decref(data);
}

static void publish_succeeded(Pending *pending, const ProtobufCMessage *response) {
        Client__PublishResult result = CLIENT__PUBLISH_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        reply.id = pending->id;
        reply.result_case = CLIENT__REPLY__RESULT_PUBLISH;
        reply.publish = &result;
        (void) session_reply(pending->session, &reply);
}

/* message.send with the fields of its request as data; the channel is the conversation. */
static void handle_publish(
        Session *session, uint32_t id, const Client__PublishRequest *request, json_t *parsed) {
        json_t *data = command_data(session, id, request->data, parsed);
        if (!data)
                return;
        Call *call = call_begin(session, id, &method_message_send,
                json_string_value(json_object_get(data, "traceparent")), publish_succeeded, NULL);
        if (call) {
                (void) json_object_del(data, "traceparent");
                json_object_set_new(data, "conversation", json_string(request->channel));
                if (read_request(call, data))
                        call_dispatch(session, call, request->channel);
        }
        json_decref(data);
}

/* --- history --- */

static bool reply_add_publications(Client__HistoryResult *result, const Pending *pending,
        const Sc__HistoryResponse *history, Arena *arena) {
        size_t n = pending->position_only ? 0 : history->n_messages;

        result->publications = arena_new(arena, Client__Publication *, n + 1);
        if (!result->publications)
                return false;
        for (size_t i = 0; i < n; i++) {
                Sc__Update update = SC__UPDATE__INIT;
                update.what_case = SC__UPDATE__WHAT_MESSAGE;
                update.message = history->messages[pending->reverse ? n - 1 - i : i];
                result->publications[i] = publication_of(arena, &update);
                if (!result->publications[i])
                        return false;
        }
        result->n_publications = n;
        return true;
}

static void history_succeeded(Pending *pending, const ProtobufCMessage *response) {
        const Sc__HistoryResponse *history = (const Sc__HistoryResponse *) response;
        Client__HistoryResult result = CLIENT__HISTORY_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;
        _cleanup_arena_ Arena arena;

        arena_init(&arena, CALL_ARENA_LIMIT);
        if (*pending->epoch && !streq(pending->epoch, history->epoch)) {
                session_reply_error(pending->session, pending->id, PROTOCOL_ERROR_UNRECOVERABLE_POSITION,
                        "since.epoch: the conversation has another one now");
                return;
        }
        if (!reply_add_publications(&result, pending, history, &arena)) {
                session_reply_error(pending->session, pending->id, protocol_error(ERROR_OVERLOADED), NULL);
                return;
        }
        result.epoch = history->epoch;
        result.offset = history->last_seq;
        reply.id = pending->id;
        reply.result_case = CLIENT__REPLY__RESULT_HISTORY;
        reply.history = &result;
        (void) session_reply(pending->session, &reply);
}

/* The protocol's page in terms of message.history: forward begins at the oldest message, backward at the
 * latest. */
static void fill_history_request(
        Sc__HistoryRequest *out, Pending *pending, const Client__HistoryRequest *request) {
        const Client__StreamPosition *since = request->since;

        pending->reverse = request->reverse;
        /* Nothing comes before the first message. */
        pending->position_only = request->limit == 0 || (request->reverse && since && since->offset == 0);
        if (pending->position_only)
                out->limit = 1;
        else
                out->limit = request->limit < 0 ? HISTORY_MAX_LIMIT
                                                : (uint32_t) MIN(request->limit, HISTORY_MAX_LIMIT);
        if (since)
                snprintf(pending->epoch, sizeof(pending->epoch), "%s", since->epoch);
        if (request->reverse)
                out->before = since ? since->offset : 0;
        else if (since && since->offset > 0)
                out->after = since->offset;
        else
                out->oldest = true;
}

static void handle_history(Session *session, uint32_t id, const Client__HistoryRequest *request) {
        Pending *pending;

        Call *call = call_begin(session, id, &method_message_history, NULL, history_succeeded, &pending);
        if (!call)
                return;
        Sc__HistoryRequest *out = request_new(call);
        if (!out)
                return;
        out->conversation = arena_strdup(&call->arena, request->channel);
        if (!out->conversation) {
                call_fail_errno(call, -ENOMEM, "make the request");
                return;
        }
        fill_history_request(out, pending, request);
        call_dispatch(session, call, request->channel);
}

/* --- presence --- */

static Client__ClientInfo *client_info(Arena *arena, const Sc__PresenceResponse__Client *client) {
        Client__ClientInfo *info = arena_new(arena, Client__ClientInfo, 1);
        _cleanup_buffer_ Buffer text = {};

        if (!info)
                return NULL;
        client__client_info__init(info);
        info->user = client->user;
        info->client = client->client;
        if (isempty(client->device))
                return info;
        (void) buffer_append_string(&text, "{\"device\":");
        (void) json_write_string(&text, client->device, strlen(client->device));
        if (buffer_append_string(&text, "}") < 0)
                return NULL;
        info->conn_info.data = arena_alloc(arena, text.size);
        if (!info->conn_info.data)
                return NULL;
        memcpy(info->conn_info.data, text.data, text.size);
        info->conn_info.len = text.size;
        return info;
}

static void presence_succeeded(Pending *pending, const ProtobufCMessage *response) {
        const Sc__PresenceResponse *presence = (const Sc__PresenceResponse *) response;
        Client__PresenceResult result = CLIENT__PRESENCE_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;
        _cleanup_arena_ Arena arena;

        arena_init(&arena, CALL_ARENA_LIMIT);
        result.presence =
                arena_new(&arena, Client__PresenceResult__PresenceEntry *, presence->n_clients + 1);
        for (size_t i = 0; result.presence && i < presence->n_clients; i++) {
                Client__PresenceResult__PresenceEntry *entry =
                        arena_new(&arena, Client__PresenceResult__PresenceEntry, 1);
                if (!entry)
                        break;
                client__presence_result__presence_entry__init(entry);
                entry->key = presence->clients[i]->client;
                entry->value = client_info(&arena, presence->clients[i]);
                if (!entry->value)
                        break;
                result.presence[result.n_presence++] = entry;
        }
        if (result.n_presence < presence->n_clients) {
                session_reply_error(pending->session, pending->id, protocol_error(ERROR_OVERLOADED), NULL);
                return;
        }
        reply.id = pending->id;
        reply.result_case = CLIENT__REPLY__RESULT_PRESENCE;
        reply.presence = &result;
        (void) session_reply(pending->session, &reply);
}

static int compare_users(const void *a, const void *b) {
        return strcmp((*(Sc__PresenceResponse__Client *const *) a)->user,
                (*(Sc__PresenceResponse__Client *const *) b)->user);
}

static void presence_stats_succeeded(Pending *pending, const ProtobufCMessage *response) {
        const Sc__PresenceResponse *presence = (const Sc__PresenceResponse *) response;
        Client__PresenceStatsResult result = CLIENT__PRESENCE_STATS_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        if (presence->n_clients > 0)
                qsort(presence->clients, presence->n_clients, sizeof(*presence->clients), compare_users);
        for (size_t i = 0; i < presence->n_clients; i++)
                result.num_users +=
                        i == 0 || compare_users(&presence->clients[i - 1], &presence->clients[i]) != 0;
        result.num_clients = (uint32_t) presence->n_clients;
        reply.id = pending->id;
        reply.result_case = CLIENT__REPLY__RESULT_PRESENCE_STATS;
        reply.presence_stats = &result;
        (void) session_reply(pending->session, &reply);
}

static void handle_presence(Session *session, uint32_t id, const char *channel,
        void (*succeeded)(Pending *pending, const ProtobufCMessage *response)) {
        Call *call = call_begin(session, id, &method_conversation_presence, NULL, succeeded, NULL);
        if (!call)
                return;
        Sc__PresenceRequest *request = request_new(call);
        if (!request)
                return;
        request->conversation = arena_strdup(&call->arena, channel);
        if (!request->conversation) {
                call_fail_errno(call, -ENOMEM, "make the request");
                return;
        }
        call_dispatch(session, call, channel);
}

/* --- subscriptions: all of them are the server's --- */

static void handle_subscribe(Session *session, uint32_t id, const Client__SubscribeRequest *request) {
        if (session_subscription(session, request->channel))
                session_reply_error(session, id, PROTOCOL_ERROR_ALREADY_SUBSCRIBED,
                        "your conversations are subscribed for you");
        else
                session_reply_error(session, id, protocol_error(ERROR_NOT_A_MEMBER), NULL);
}

static void handle_unsubscribe(Session *session, uint32_t id, const Client__UnsubscribeRequest *request) {
        Client__UnsubscribeResult result = CLIENT__UNSUBSCRIBE_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        if (session_subscription(session, request->channel)) {
                session_reply_error(session, id, PROTOCOL_ERROR_NOT_AVAILABLE,
                        "a member of a conversation is subscribed to it");
                return;
        }
        reply.id = id;
        reply.result_case = CLIENT__REPLY__RESULT_UNSUBSCRIBE;
        reply.unsubscribe = &result;
        (void) session_reply(session, &reply);
}

/* --- which is which --- */

static void handle_ping(Session *session, uint32_t id) {
        Client__PingResult result = CLIENT__PING_RESULT__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        reply.id = id;
        reply.result_case = CLIENT__REPLY__RESULT_PING;
        reply.ping = &result;
        (void) session_reply(session, &reply);
}

static void handle_pong(Session *session) {
        session->pong_by = 0;
        session_arm(session);
}

static void handle_connected(Session *session, const Client__Command *command, json_t *data) {
        uint32_t id = command->id;

        switch (command->method_case) {
        case CLIENT__COMMAND__METHOD_RPC:
                handle_rpc(session, id, command->rpc, data);
                break;
        case CLIENT__COMMAND__METHOD_PUBLISH:
                handle_publish(session, id, command->publish, data);
                break;
        case CLIENT__COMMAND__METHOD_HISTORY:
                handle_history(session, id, command->history);
                break;
        case CLIENT__COMMAND__METHOD_PRESENCE:
                handle_presence(session, id, command->presence->channel, presence_succeeded);
                break;
        case CLIENT__COMMAND__METHOD_PRESENCE_STATS:
                handle_presence(session, id, command->presence_stats->channel, presence_stats_succeeded);
                break;
        case CLIENT__COMMAND__METHOD_REFRESH:
                command_refresh(session, id, command->refresh);
                break;
        case CLIENT__COMMAND__METHOD_PING:
                handle_ping(session, id);
                break;
        case CLIENT__COMMAND__METHOD_SUBSCRIBE:
                handle_subscribe(session, id, command->subscribe);
                break;
        case CLIENT__COMMAND__METHOD_UNSUBSCRIBE:
                handle_unsubscribe(session, id, command->unsubscribe);
                break;
        case CLIENT__COMMAND__METHOD_SEND: /* with id 0 nobody waits for the refusal */
        case CLIENT__COMMAND__METHOD_SUB_REFRESH:
                session_reply_error(session, id, PROTOCOL_ERROR_NOT_AVAILABLE, NULL);
                break;
        case CLIENT__COMMAND__METHOD_CONNECT:
                session_disconnect(session, DISCONNECT_BAD_REQUEST);
                break;
        case CLIENT__COMMAND__METHOD__NOT_SET: /* one of a later version of the protocol */
        default:
                session_reply_error(session, id, protocol_error(ERROR_METHOD_NOT_FOUND), NULL);
        }
}

void command_handle(Session *session, const Client__Command *command, json_t *data) {
        bool is_connect = command->method_case == CLIENT__COMMAND__METHOD_CONNECT;

        if (session->state == SESSION_OPEN && is_connect && command->id > 0)
                command_connect(session, command->id, command->connect);
        else if (session->state == SESSION_OPEN)
                session_disconnect(session, DISCONNECT_BAD_REQUEST);
        else if (command->id > 0 || command->method_case == CLIENT__COMMAND__METHOD_SEND)
                handle_connected(session, command, data);
        else if (command->method_case == CLIENT__COMMAND__METHOD__NOT_SET)
                handle_pong(session);
        else
                session_disconnect(session, DISCONNECT_BAD_REQUEST);
}
