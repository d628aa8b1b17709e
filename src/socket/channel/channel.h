/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A conversation as this gateway sees it: the connections that are subscribed to it, each with its position.
 *
 * A connection gets messages in the order of seq, each once: the next one is sent, an older one dropped. A
 * seq beyond the next one shows that something was lost. While the connection is being attached, or has to
 * be attached again, the attachment makes that good (gateway/attachment.c); otherwise the connection ends,
 * and the client connects again and recovers what it missed. */

#include "socket/channel/delivery.h"
#include "socket/connection/connection.h"

struct Subscription {
        Channel *channel;
        Connection *connection;
        uint64_t position; /* the seq that was sent last */
        uint64_t serial; /* role->serial when it was made, or confirmed by an attachment */
        LIST_ENTRY(Subscription) in_channel, in_connection;
};

struct Channel {
        UT_hash_handle hh;
        SubscriptionList subscriptions;
        unsigned n_subscriptions;
        uint64_t valid_since; /* role->serial: older subscriptions are to be attached again */
        char *epoch;
        char conversation[];
};

/* NULL if no connection is subscribed. */
Channel *channel_find(SocketRole *role, const char *conversation);
/* Sends to all of its connections; answers how many got it. */
unsigned channel_deliver(SocketRole *role, Channel *channel, Delivery *delivery);

/* NULL if the connection is not subscribed. */
Subscription *subscription_find(const Connection *connection, const char *conversation);
/* Subscribes the connection, which is not subscribed yet. -ENOMEM. */
int subscription_new(Subscription **ret, Connection *connection, const char *conversation, const char *epoch,
        uint64_t position);
/* Unsubscribes. */
Subscription *subscription_free(Subscription *subscription);
/* All of the connection's. */
void subscriptions_free(Connection *connection);

/* Follows the rule above for one connection: 1 sent, 0 dropped, -ECONNRESET if the connection was or is now
 * disconnected. */
int subscription_deliver(Subscription *subscription, Delivery *delivery);

/* Tells the client that it is, or is no longer, subscribed to a conversation. -ECONNRESET as above. */
int connection_push_subscribe(Connection *connection, const Subscription *subscription);
int connection_push_unsubscribe(Connection *connection, const char *conversation);
