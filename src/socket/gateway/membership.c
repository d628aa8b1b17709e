/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/gateway/membership.h"

int connection_subscribe(Connection *connection, Channel *channel, uint64_t position) {
        if (connection->state == CONNECTION_CLOSING)
                return -ECONNRESET;
        Subscription *subscription = subscription_find(connection, channel->conversation);
        if (subscription) {
                subscription->serial = connection->role->serial;
                return 0;
        }
        if (connection->n_subscriptions >= connection->role->conf->socket_max_conversations) {
                connection->truncated = true; /* connection_catch_up() tells the client */
                return 0;
        }
        int r = subscription_new(&subscription, connection, channel, position);
        if (r < 0)
                return r;
        /* Without room, connection_catch_up() does it. */
        if (connection->state != CONNECTION_CONNECTED || !connection_has_room(connection))
                return 0;
        return subscription_announce(subscription);
}
