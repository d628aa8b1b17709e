/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/channel/delivery.h"

#include "schema-tables.h"
#include "util/string-util.h"

/* A message is at most 64 KiB, twice in JSON with escapes, and some structs. */
#define DELIVERY_ARENA_LIMIT (1U << 20)

Client__Publication *publication_of(Arena *arena, const Sc__Update *update) {
        _cleanup_buffer_ Buffer data = {};
        Client__Publication *publication = arena_new(arena, Client__Publication, 1);
        Client__ClientInfo *info = arena_new(arena, Client__ClientInfo, 1);
        const char *user = "";

        if (!publication || !info)
                return NULL;
        client__publication__init(publication);
        if (json_write_message(&data, &sc__update__info, &update->base) < 0)
                return NULL;
        publication->data.data = arena_alloc(arena, data.size);
        if (!publication->data.data)
                return NULL;
        memcpy(publication->data.data, data.data, data.size);
        publication->data.len = data.size;
        if (update->what_case == SC__UPDATE__WHAT_MESSAGE) {
                publication->offset = update->message->seq;
                user = update->message->sender;
        } else if (update->what_case == SC__UPDATE__WHAT_RECEIPT)
                user = update->receipt->user;
        if (!isempty(user)) {
                client__client_info__init(info);
                info->user = arena_strdup(arena, user);
                if (!info->user)
                        return NULL;
                publication->info = info;
        }
        return publication;
}

static Client__Reply *push_new(Arena *arena, const char *channel) {
        Client__Reply *reply = arena_new(arena, Client__Reply, 1);
        Client__Push *push = arena_new(arena, Client__Push, 1);

        if (!reply || !push)
                return NULL;
        client__reply__init(reply);
        client__push__init(push);
        reply->result_case = CLIENT__REPLY__RESULT_PUSH;
        reply->push = push;
        push->channel = arena_strdup(arena, channel);
        return push->channel ? reply : NULL;
}

int delivery_new(Delivery **ret, const char *conversation, const Sc__Update *update) {
        _cleanup_(delivery_unrefp) Delivery *delivery = new0(Delivery, 1);
        if (!delivery)
                return -ENOMEM;
        delivery->n_ref = 1;
        arena_init(&delivery->arena, DELIVERY_ARENA_LIMIT);
        if (update->what_case == SC__UPDATE__WHAT_MESSAGE)
                delivery->seq = update->message->seq;
        delivery->reply = push_new(&delivery->arena, conversation);
        if (!delivery->reply)
                return -ENOMEM;
        delivery->conversation = delivery->reply->push->channel;
        delivery->reply->push->what_case = CLIENT__PUSH__WHAT_PUB;
        delivery->reply->push->pub = publication_of(&delivery->arena, update);
        if (!delivery->reply->push->pub)
                return -ENOMEM;
        *ret = TAKE_PTR(delivery);
        return 0;
}

Delivery *delivery_ref(Delivery *delivery) {
        delivery->n_ref++;
        return delivery;
}

Delivery *delivery_unref(Delivery *delivery) {
        if (!delivery || --delivery->n_ref > 0)
                return NULL;
        for (unsigned i = 0; i < N_CODECS; i++)
                bytes_unref(delivery->encoded[i]);
        arena_done(&delivery->arena);
        free(delivery);
        return NULL;
}

Bytes *delivery_encoded(Delivery *delivery, CodecKind kind) {
        if (!delivery->encoded[kind])
                delivery->encoded[kind] = codec_encode(kind, delivery->reply);
        return delivery->encoded[kind];
}
