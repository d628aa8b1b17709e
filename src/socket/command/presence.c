/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/command/presence.h"

#include "schema-tables.h"
#include "socket/command/pending-command.h"
#include "util/string-util.h"

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

static void presence_succeeded(PendingCommand *pending, const ProtobufCMessage *response) {
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
        if (result.n_presence < presence->n_clients)
                return connection_reply_error(
                        pending->connection, pending->id, protocol_error(ERROR_OVERLOADED), NULL);
        reply.id = pending->id;
        reply.result_case = CLIENT__REPLY__RESULT_PRESENCE;
        reply.presence = &result;
        (void) connection_reply(pending->connection, &reply);
}

static int compare_users(const void *a, const void *b) {
        return strcmp((*(Sc__PresenceResponse__Client *const *) a)->user,
                (*(Sc__PresenceResponse__Client *const *) b)->user);
}

static void presence_stats_succeeded(PendingCommand *pending, const ProtobufCMessage *response) {
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
        (void) connection_reply(pending->connection, &reply);
}

static void ask_presence(Connection *connection, uint32_t id, const char *channel,
        void (*succeeded)(PendingCommand *pending, const ProtobufCMessage *response)) {
        Call *call = command_call_new(connection, id, &method_conversation_presence, NULL, succeeded, NULL);
        if (!call)
                return;
        Sc__PresenceRequest *request = command_call_request(call);
        if (!request)
                return;
        request->conversation = arena_strdup(&call->arena, channel);
        if (!request->conversation)
                return call_fail_errno(call, -ENOMEM, "make the request");
        command_call_dispatch(connection, call, channel);
}

void command_presence(Connection *connection, uint32_t id, const Client__PresenceRequest *request) {
        ask_presence(connection, id, request->channel, presence_succeeded);
}

void command_presence_stats(
        Connection *connection, uint32_t id, const Client__PresenceStatsRequest *request) {
        ask_presence(connection, id, request->channel, presence_stats_succeeded);
}
