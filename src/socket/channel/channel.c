/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/channel/channel.h"

#include <stdio.h>

#include "util/string-util.h"

Channel *channel_find(SocketRole *role, const char *conversation) {
        Channel *channel;

        HASH_FIND_STR(role->channels, conversation, channel);
        return channel;
}

static void set_epoch(Channel *channel, const char *epoch) {
        snprintf(channel->epoch, sizeof(channel->epoch), "%s", epoch);
}

static Channel *channel_new(SocketRole *role, const char *conversation, const char *epoch) {
        size_t size = strlen(conversation) + 1;
        Channel *channel = calloc(1, sizeof(Channel) + size);

        if (!channel)
                return NULL;
        memcpy(channel->conversation, conversation, size);
        set_epoch(channel, epoch);
        HASH_ADD_KEYPTR(hh, role->channels, channel->conversation, size - 1, channel);
        return HASH_WAS_ADDED(channel) ? channel : mfree(channel);
}

static void channel_free_if_unused(SocketRole *role, Channel *channel) {
        if (channel->n_subscriptions > 0 || channel->n_pins > 0)
                return;
        HASH_DEL(role->channels, channel);
        free(channel);
}

Channel *channel_pin(Channel *channel) {
        channel->n_pins++;
        return channel;
}

Channel *channel_unpin(SocketRole *role, Channel *channel) {
        if (!channel)
                return NULL;
        channel->n_pins--;
        channel_free_if_unused(role, channel);
        return NULL;
}

void channel_set_epoch(SocketRole *role, Channel *channel, const char *epoch, uint64_t top) {
        Subscription *next;

        set_epoch(channel, epoch);
        channel->top = top;
        for (Subscription *s = LIST_FIRST(&channel->subscriptions); s; s = next) {
                next = LIST_NEXT(s, in_channel);
                (void) subscription_restart(s);
        }
}

Channel *channel_open(SocketRole *role, const char *conversation, const char *epoch, uint64_t top) {
        Channel *channel = channel_find(role, conversation) ?: channel_new(role, conversation, epoch);

        if (!channel)
                return NULL;
        channel_pin(channel);
        if (!streq(channel->epoch, epoch))
                channel_set_epoch(role, channel, epoch, top);
        channel->top = MAX(channel->top, top);
        return channel;
}

/* --- subscriptions --- */

Subscription *subscription_find(const Connection *connection, const char *conversation) {
        Channel *channel = channel_find(connection->role, conversation);

        if (!channel)
                return NULL;
        /* Walks both lists side by side, so that the shorter one decides how long this takes: a connection
         * may have very many subscriptions, and a channel too, but rarely both. */
        Subscription *a = TAILQ_FIRST(&connection->subscriptions), *b = LIST_FIRST(&channel->subscriptions);
        while (a && b) {
                if (a->channel == channel)
                        return a;
                if (b->connection == connection)
                        return b;
                a = TAILQ_NEXT(a, in_connection);
                b = LIST_NEXT(b, in_channel);
        }
        return NULL;
}

int subscription_new(Subscription **ret, Connection *connection, Channel *channel, uint64_t position) {
        Subscription *subscription = new0(Subscription, 1);

        if (!subscription)
                return -ENOMEM;
        *subscription = (Subscription){
                .channel = channel,
                .connection = connection,
                .position = position,
                .serial = connection->role->serial,
        };
        LIST_INSERT_HEAD(&channel->subscriptions, subscription, in_channel);
        TAILQ_INSERT_TAIL(&connection->subscriptions, subscription, in_connection);
        channel->n_subscriptions++;
        connection->n_subscriptions++;
        connection->n_unannounced++;
        *ret = subscription;
        return 0;
}

Subscription *subscription_free(Subscription *subscription) {
        if (!subscription)
                return NULL;
        LIST_REMOVE(subscription, in_channel);
        TAILQ_REMOVE(&subscription->connection->subscriptions, subscription, in_connection);
        subscription->channel->n_subscriptions--;
        subscription->connection->n_subscriptions--;
        subscription->connection->n_recoverable -= subscription->recoverable;
        subscription->connection->n_unannounced -= !subscription->announced;
        channel_free_if_unused(subscription->connection->role, subscription->channel);
        free(subscription);
        return NULL;
}

void subscriptions_free(Connection *connection) {
        while (!TAILQ_EMPTY(&connection->subscriptions))
                subscription_free(TAILQ_FIRST(&connection->subscriptions));
}

/* --- delivering --- */

/* 1 sent, 0 not. */
static int deliver(Subscription *subscription, Delivery *delivery) {
        Connection *connection = subscription->connection;
        SocketRole *role = connection->role;

        if (connection->state != CONNECTION_CONNECTED || !subscription->announced)
                return 0;
        if (delivery->seq > 0 && delivery->seq <= subscription->position)
                return 0;
        bool is_next = delivery->seq == 0 ||
                       (delivery->seq == subscription->position + 1 &&
                               websocket_queued_replies(connection->socket) <= CHANNEL_MAX_WAITING);
        Bytes *encoded = is_next ? delivery_encoded(delivery, connection->codec) : NULL;
        if (!encoded) {
                role->statistics.gaps += delivery->seq > 0;
                role->handlers->on_behind(connection);
                return 0;
        }
        if (connection_send(connection, encoded) < 0)
                return 0;
        if (delivery->seq > 0)
                subscription->position = delivery->seq;
        role->statistics.deliveries++;
        return 1;
}

unsigned channel_deliver(SocketRole *role, Channel *channel, Delivery *delivery) {
        Subscription *subscription, *next;
        unsigned n_sent = 0;

        channel_pin(channel);
        channel->top = MAX(channel->top, delivery->seq);
        /* A connection that is disconnected frees its own subscription. */
        for (subscription = LIST_FIRST(&channel->subscriptions); subscription; subscription = next) {
                next = LIST_NEXT(subscription, in_channel);
                n_sent += deliver(subscription, delivery) > 0;
        }
        channel_unpin(role, channel);
        return n_sent;
}

void channel_skip(Channel *channel) {
        Subscription *subscription;

        LIST_FOREACH(subscription, &channel->subscriptions, in_channel)
                subscription->position = MAX(subscription->position, channel->top);
}

void channel_raise(SocketRole *role, Channel *channel, uint64_t top) {
        Subscription *subscription;

        channel->top = MAX(channel->top, top);
        LIST_FOREACH(subscription, &channel->subscriptions, in_channel)
                if (subscription_is_behind(subscription))
                        role->handlers->on_behind(subscription->connection);
}

/* --- what the client is told --- */

void subscription_set_announced(Subscription *subscription) {
        subscription->connection->n_unannounced -= !subscription->announced;
        subscription->announced = true;
        connection_count_recoverable(subscription->connection, &subscription->recoverable);
}

static int push(const Subscription *subscription, Client__Push *push) {
        Client__Reply reply = CLIENT__REPLY__INIT;

        push->channel = subscription->channel->conversation;
        reply.result_case = CLIENT__REPLY__RESULT_PUSH;
        reply.push = push;
        return connection_reply(subscription->connection, &reply);
}

int subscription_announce(Subscription *subscription) {
        Client__Subscribe subscribe = CLIENT__SUBSCRIBE__INIT;
        Client__Push message = CLIENT__PUSH__INIT;

        subscription_set_announced(subscription);
        subscribe.recoverable = subscribe.positioned = subscription->recoverable;
        subscribe.epoch = subscription->channel->epoch;
        subscribe.offset = subscription->position;
        message.what_case = CLIENT__PUSH__WHAT_SUBSCRIBE;
        message.subscribe = &subscribe;
        return push(subscription, &message);
}

static int push_unsubscribe(const Subscription *subscription, unsigned code, const char *reason) {
        Client__Unsubscribe unsubscribe = CLIENT__UNSUBSCRIBE__INIT;
        Client__Push message = CLIENT__PUSH__INIT;

        if (!subscription->announced)
                return 0;
        unsubscribe.code = code;
        unsubscribe.reason = (char *) reason;
        message.what_case = CLIENT__PUSH__WHAT_UNSUBSCRIBE;
        message.unsubscribe = &unsubscribe;
        return push(subscription, &message);
}

int subscription_end(Subscription *subscription) {
        int r = push_unsubscribe(subscription, UNSUBSCRIBE_CODE_SERVER, "no longer a member");

        if (r >= 0)
                subscription_free(subscription);
        return r;
}

int subscription_restart(Subscription *subscription) {
        subscription->position = subscription->channel->top;
        int r = push_unsubscribe(subscription, UNSUBSCRIBE_CODE_INSUFFICIENT, "insufficient state");
        return r >= 0 && subscription->announced ? subscription_announce(subscription) : r;
}
