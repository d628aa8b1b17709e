/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/channel.h"

#include "schema-tables.h"
#include "socket/socket-role.h"
#include "util/string-util.h"

/* A message is at most 64 KiB, twice in JSON with escapes, and some structs. */
#define DELIVERY_ARENA_LIMIT (1U << 20)

/* --- encoding --- */

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

/* --- channels and subscriptions --- */

Channel *channel_find(SocketRole *role, const char *conversation) {
        Channel *channel;

        HASH_FIND_STR(role->channels, conversation, channel);
        return channel;
}

static Channel *channel_new(SocketRole *role, const char *conversation, const char *epoch) {
        size_t size = strlen(conversation) + 1;
        Channel *channel = calloc(1, sizeof(Channel) + size);

        if (!channel)
                return NULL;
        memcpy(channel->conversation, conversation, size);
        channel->epoch = strdup(epoch);
        if (!channel->epoch)
                return mfree(channel);
        HASH_ADD_KEYPTR(hh, role->channels, channel->conversation, size - 1, channel);
        if (!channel->hh.tbl) {
                free(channel->epoch);
                return mfree(channel);
        }
        return channel;
}

static void channel_free_if_unused(SocketRole *role, Channel *channel) {
        if (channel->n_subscriptions > 0)
                return;
        HASH_DEL(role->channels, channel);
        free(channel->epoch);
        free(channel);
}

Subscription *session_subscription(const Session *session, const char *conversation) {
        Channel *channel = channel_find(session->role, conversation);

        if (!channel)
                return NULL;
        /* A user may have very many conversations, and a conversation very many members, but hardly ever are
         * both so: both lists are walked side by side, and the shorter one decides. */
        Subscription *a = LIST_FIRST(&session->subscriptions), *b = LIST_FIRST(&channel->subscriptions);
        while (a && b) {
                if (a->channel == channel)
                        return a;
                if (b->session == session)
                        return b;
                a = LIST_NEXT(a, in_session);
                b = LIST_NEXT(b, in_channel);
        }
        return NULL;
}

int subscription_new(Subscription **ret, Session *session, const char *conversation, const char *epoch,
        uint64_t position) {
        SocketRole *role = session->role;
        _cleanup_free_ Subscription *subscription = new0(Subscription, 1);
        Channel *channel = channel_find(role, conversation);

        if (!subscription)
                return -ENOMEM;
        if (!channel)
                channel = channel_new(role, conversation, epoch);
        if (!channel)
                return -ENOMEM;
        if (!streq(channel->epoch, epoch)) {
                char *copy = strdup(epoch);
                if (!copy)
                        return -ENOMEM;
                free(channel->epoch);
                channel->epoch = copy;
        }
        *subscription = (Subscription){
                .channel = channel,
                .session = session,
                .position = position,
                .serial = role->gateway ? gateway_serial(role->gateway) : 0,
        };
        LIST_INSERT_HEAD(&channel->subscriptions, subscription, in_channel);
        LIST_INSERT_HEAD(&session->subscriptions, subscription, in_session);
        channel->n_subscriptions++;
        if (ret)
                *ret = subscription;
        TAKE_PTR(subscription);
        return 0;
}

Subscription *subscription_free(Subscription *subscription) {
        if (!subscription)
                return NULL;
        LIST_REMOVE(subscription, in_channel);
        LIST_REMOVE(subscription, in_session);
        subscription->channel->n_subscriptions--;
        channel_free_if_unused(subscription->session->role, subscription->channel);
        free(subscription);
        return NULL;
}

/* --- delivering --- */

int subscription_deliver(Subscription *subscription, Delivery *delivery) {
        Session *session = subscription->session;
        SocketRole *role = session->role;

        if (delivery->seq > 0 && delivery->seq <= subscription->position)
                return 0;
        if (delivery->seq > subscription->position + 1) {
                if (!LIST_EMPTY(&session->attachments))
                        return 0; /* held by the gateway until the attachment is there */
                role->statistics.gaps++;
                session_disconnect(session, DISCONNECT_INSUFFICIENT_STATE);
                return -ECONNRESET;
        }
        Bytes *encoded = delivery_encoded(delivery, session->codec);
        if (!encoded) {
                session_disconnect(session, DISCONNECT_SERVER_ERROR);
                return -ECONNRESET;
        }
        int r = session_send(session, encoded);
        if (r < 0)
                return r;
        if (delivery->seq > 0)
                subscription->position = delivery->seq;
        role->statistics.deliveries++;
        return 1;
}

unsigned channel_deliver(SocketRole *role, Channel *channel, Delivery *delivery) {
        Subscription *subscription, *next;
        unsigned n_sent = 0;

        /* A session that is disconnected takes its own subscription away, and with the last one the channel.
         */
        for (subscription = LIST_FIRST(&channel->subscriptions); subscription; subscription = next) {
                next = LIST_NEXT(subscription, in_channel);
                n_sent += subscription_deliver(subscription, delivery) > 0;
        }
        return n_sent;
}

int session_push_subscribe(Session *session, const Subscription *subscription) {
        Client__Subscribe subscribe = CLIENT__SUBSCRIBE__INIT;
        Client__Push push = CLIENT__PUSH__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        subscribe.recoverable = subscribe.positioned = true;
        subscribe.epoch = subscription->channel->epoch;
        subscribe.offset = subscription->position;
        push.channel = subscription->channel->conversation;
        push.what_case = CLIENT__PUSH__WHAT_SUBSCRIBE;
        push.subscribe = &subscribe;
        reply.result_case = CLIENT__REPLY__RESULT_PUSH;
        reply.push = &push;
        return session_reply(session, &reply);
}

int session_push_unsubscribe(Session *session, const char *conversation) {
        Client__Unsubscribe unsubscribe = CLIENT__UNSUBSCRIBE__INIT;
        Client__Push push = CLIENT__PUSH__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;

        unsubscribe.code = UNSUBSCRIBE_CODE_SERVER;
        unsubscribe.reason = (char *) "no longer a member";
        push.channel = (char *) conversation;
        push.what_case = CLIENT__PUSH__WHAT_UNSUBSCRIBE;
        push.unsubscribe = &unsubscribe;
        reply.result_case = CLIENT__REPLY__RESULT_PUSH;
        reply.push = &push;
        return session_reply(session, &reply);
}
