/* SPDX-License-Identifier: Apache-2.0 */

/* conversation.presence. */

#include "group/conversation/access.h"
#include "group/delivery/online.h"
#include "service-handlers.h"

#define PRESENCE_MAX_CLIENTS 10000U

/* What is found lives until something changes, so it is copied. */
static int copy_client(Arena *arena, const OnlineClient *client, Sc__PresenceResponse__Client *ret) {
        *ret = (Sc__PresenceResponse__Client) SC__PRESENCE_RESPONSE__CLIENT__INIT;
        ret->client = arena_strdup(arena, client->id);
        ret->user = arena_strdup(arena, client->user);
        ret->device = arena_strdup(arena, client->device);
        return ret->client && ret->user && ret->device ? 0 : -ENOMEM;
}

int handle_conversation_presence(
        Call *call, const Sc__PresenceRequest *request, Sc__PresenceResponse *response) {
        _cleanup_conversation_ Conversation *conversation = NULL;
        _cleanup_free_ OnlineClient *clients = NULL;
        GroupRole *role = call->role;
        int r;

        r = access_conversation(call, request->conversation, &conversation);
        if (r < 0)
                return r;
        clients = new0(OnlineClient, PRESENCE_MAX_CLIENTS);
        if (!clients)
                return -ENOMEM;
        size_t n = is_personal_id(conversation->id)
                           ? online_clients_of_user(
                                     role->online, conversation->id + 1, clients, PRESENCE_MAX_CLIENTS)
                           : online_clients(role->online, conversation->id, clients, PRESENCE_MAX_CLIENTS);
        Sc__PresenceResponse__Client *items = arena_new(&call->arena, Sc__PresenceResponse__Client, n + 1);
        response->clients = arena_new(&call->arena, Sc__PresenceResponse__Client *, n + 1);
        if (!items || !response->clients)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                r = copy_client(&call->arena, &clients[i], &items[i]);
                if (r < 0)
                        return r;
                response->clients[response->n_clients++] = &items[i];
        }
        return 0;
}
