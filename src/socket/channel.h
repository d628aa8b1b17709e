/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A conversation as this gateway sees it: the connections to tell, each with its position.
 *
 * What is delivered is encoded once a framing and shared by all queues. A connection gets messages in the
 * order of seq, each once: the next one is sent, an older one dropped, and one too far means that something
 * was lost: while the connection is being attached anew that is what the attachment makes good, otherwise
 * the connection ends and the client recovers. */

#include <stdbool.h>
#include <sys/queue.h>

/* Out of memory is an error like any other: the element's tbl is NULL then. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "socket/codec.h"
#include "stonechat/v1/internal.pb-c.h"

typedef struct SocketRole SocketRole;
typedef struct Session Session;
typedef struct Channel Channel;

typedef struct Subscription Subscription;
struct Subscription {
        Channel *channel;
        Session *session;
        uint64_t position; /* the seq that was sent last */
        uint64_t serial; /* of the gateway, when it was made */
        LIST_ENTRY(Subscription) in_channel, in_session;
};
typedef LIST_HEAD(SubscriptionList, Subscription) SubscriptionList;

struct Channel {
        UT_hash_handle hh;
        SubscriptionList subscriptions;
        unsigned n_subscriptions;
        char *epoch;
        char conversation[];
};

/* One update on its way to connections; reference-counted. */
typedef struct Delivery {
        unsigned n_ref;
        uint64_t seq; /* 0: takes no place in the conversation (a receipt) */
        Bytes *encoded[N_CODECS]; /* made when first needed */
        Arena arena;
        Client__Reply *reply; /* in the arena */
        char *conversation; /* likewise */
} Delivery;

int delivery_new(Delivery **ret, const char *conversation, const Sc__Update *update);
Delivery *delivery_ref(Delivery *delivery);
Delivery *delivery_unref(Delivery *delivery);
DEFINE_CLEANUP(Delivery *, delivery_unref);
/* Its encoding, owned by the delivery; NULL when out of memory. */
Bytes *delivery_encoded(Delivery *delivery, CodecKind kind);

/* A publication as it stands in replies of recovery and history, in the arena; NULL at the arena's limit. */
Client__Publication *publication_of(Arena *arena, const Sc__Update *update);

Channel *channel_find(SocketRole *role, const char *conversation);
/* Sends to all; the number of connections that got it. */
unsigned channel_deliver(SocketRole *role, Channel *channel, Delivery *delivery);

/* NULL if the session is not subscribed. */
Subscription *session_subscription(const Session *session, const char *conversation);
/* Subscribes the session; it must not be. -ENOMEM. */
int subscription_new(Subscription **ret, Session *session, const char *conversation, const char *epoch,
        uint64_t position);
/* Unsubscribes. */
Subscription *subscription_free(Subscription *subscription);

/* The rule above for one connection: 1 sent, 0 dropped, -ECONNRESET if the session is or was disconnected.
 */
int subscription_deliver(Subscription *subscription, Delivery *delivery);

/* Tells the client that it now has, or no longer has, a channel. */
int session_push_subscribe(Session *session, const Subscription *subscription);
int session_push_unsubscribe(Session *session, const char *conversation);
