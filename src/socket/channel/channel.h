/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A conversation as this gateway sees it: how far it has come, and the connections that are subscribed to it,
 * each with its position.
 *
 * A connection gets messages in the order of seq, each once: the next one is sent, an older one dropped. A
 * message beyond the next one only raises the channel's top. A subscription below the top is behind: what it
 * lacks is fetched in pages (gateway/catch-up.c). */

#include "socket/channel/delivery.h"
#include "socket/connection/connection.h"

struct Subscription {
        Channel *channel;
        Connection *connection;
        uint64_t position; /* the seq that was sent last */
        uint64_t serial; /* role->serial when it was made, or confirmed by an attachment */
        bool announced; /* the client knows of it: before that nothing is sent */
        bool recoverable; /* and may tell its position when it comes back */
        LIST_ENTRY(Subscription) in_channel;
        TAILQ_ENTRY(Subscription) in_connection;
};

struct Channel {
        UT_hash_handle hh;
        LIST_HEAD(, Subscription) subscriptions;
        uint64_t top; /* the largest seq that is known here */
        unsigned n_subscriptions;
        uint16_t n_pins; /* it stays meanwhile, without subscriptions too */
        bool fetching; /* a page of it is under way */
        char epoch[UUID_TEXT_SIZE];
        char conversation[];
};

/* A connection that has more than this to read gets no messages but in pages that are fetched when it has
 * read them. */
#define CHANNEL_MAX_WAITING (64U << 10)

/* NULL if no connection is subscribed. */
Channel *channel_find(SocketRole *role, const char *conversation);
/* Finds or makes it, and raises its top. If it has another epoch now, its subscriptions begin anew. Pinned, or
 * NULL when out of memory. */
Channel *channel_open(SocketRole *role, const char *conversation, const char *epoch, uint64_t top);
Channel *channel_pin(Channel *channel);
/* Frees it if it is not used. Answers NULL. */
Channel *channel_unpin(SocketRole *role, Channel *channel);
/* The conversation has another epoch: its subscriptions begin anew. The channel is pinned. */
void channel_set_epoch(SocketRole *role, Channel *channel, const char *epoch, uint64_t top);
/* What is behind cannot be had, and is skipped. */
void channel_skip(Channel *channel);
/* There are messages up to this one, which nobody got. */
void channel_raise(SocketRole *role, Channel *channel, uint64_t top);
/* Sends to all of its connections; answers how many got it. */
unsigned channel_deliver(SocketRole *role, Channel *channel, Delivery *delivery);

/* NULL if the connection is not subscribed. */
Subscription *subscription_find(const Connection *connection, const char *conversation);
/* Subscribes the connection, which is not subscribed yet, without telling the client. -ENOMEM. */
int subscription_new(Subscription **ret, Connection *connection, Channel *channel, uint64_t position);
/* Unsubscribes. */
Subscription *subscription_free(Subscription *subscription);
/* All of the connection's. */
void subscriptions_free(Connection *connection);

static inline bool subscription_is_behind(const Subscription *subscription) {
        return subscription->position < subscription->channel->top;
}

/* The client is told of it, by the connect reply; and whether it is recoverable. */
void subscription_set_announced(Subscription *subscription);

/* --- what the client is told; all of these: -ECONNRESET if the connection was or is now disconnected --- */

/* That it is subscribed. */
int subscription_announce(Subscription *subscription);
/* That it is subscribed no more; then unsubscribes. */
int subscription_end(Subscription *subscription);
/* That what it lacks cannot be had: it is unsubscribed and subscribed again, at the channel's top. */
int subscription_restart(Subscription *subscription);
