/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/channel/channel.h"

#include "util/string-util.h"

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
        if (!HASH_WAS_ADDED(channel)) {
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

Subscription *subscription_find(const Connection *connection, const char *conversation) {
        Channel *channel = channel_find(connection->role, conversation);

        if (!channel)
                return NULL;
        /* Walks both lists side by side, so that the shorter one decides how long this takes: a connection
         * may have very many subscriptions, and a channel too, but rarely both. */
        Subscription *a = LIST_FIRST(&connection->subscriptions), *b = LIST_FIRST(&channel->subscriptions);
        while (a && b) {
                if (a->channel == channel)
                        return a;
                if (b->connection == connection)
                        return b;
                a = LIST_NEXT(a, in_connection);
                b = LIST_NEXT(b, in_channel);
        }
        return NULL;
}

int subscription_new(Subscription **ret, Connection *connection, const char *conversation, const char *epoch,
        uint64_t position) {
        SocketRole *role = connection->role;
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
                .connection = connection,
                .position = position,
                .serial = role->serial,
        };
        LIST_INSERT_HEAD(&channel->subscriptions, subscription, in_channel);
        LIST_INSERT_HEAD(&connection->subscriptions, subscription, in_connection);
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
        LIST_REMOVE(subscription, in_connection);
        subscription->channel->n_subscriptions--;
        channel_free_if_unused(subscription->connection->role, subscription->channel);
        free(subscription);
        return NULL;
}

void subscriptions_free(Connection *connection) {
        while (!LIST_EMPTY(&connection->subscriptions))
                subscription_free(LIST_FIRST(&connection->subscriptions));
}

/* --- delivering --- */

int subscription_deliver(Subscription *subscription, Delivery *delivery) {
        Connection *connection = subscription->connection;
        SocketRole *role = connection->role;

        if (delivery->seq > 0 && delivery->seq <= subscription->position)
                return 0;
        if (delivery->seq > subscription->position + 1) {
                /* Then the answer will bring it, or the push buffer has it. */
                if (!LIST_EMPTY(&connection->attachments) ||
                        subscription->serial <= subscription->channel->valid_since)
                        return 0;
                role->statistics.gaps++;
                connection_disconnect(connection, DISCONNECT_INSUFFICIENT_STATE);
                return -ECONNRESET;
        }
        Bytes *encoded = delivery_encoded(delivery, connection->codec);
        if (!encoded) {
                connection_disconnect(connection, DISCONNECT_SERVER_ERROR);
                return -ECONNRESET;
        }
        int r = connection_send(connection, encoded);
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

        /* A connection that is disconnected frees its own subscription, and with the last one the
         * channel. */
        for (subscription = LIST_FIRST(&channel->subscriptions); subscription; subscription = next) {
                next = LIST_NEXT(subscription, in_channel);
                n_sent += subscription_deliver(subscription, delivery) > 0;
        }
        return n_sent;
}

int connection_push_subscribe(Connection *connection, const Subscription *subscription) {
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
        return connection_reply(connection, &reply);
}

int connection_push_unsubscribe(Connection *connection, const char *conversation) {
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
        return connection_reply(connection, &reply);
}
