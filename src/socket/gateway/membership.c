/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/gateway/membership.h"

int connection_subscribe(Connection *connection, const Sc__Subscription *from) {
        Subscription *subscription;

        int r = subscription_new(&subscription, connection, from->conversation, from->epoch, from->last_seq);
        if (r < 0) {
                connection_disconnect(connection, DISCONNECT_SERVER_ERROR);
                return -ECONNRESET;
        }
        return connection_push_subscribe(connection, subscription);
}

int connection_apply_membership(Connection *connection, const Sc__MembershipChanged *change) {
        const char *conversation = change->subscription->conversation;
        Subscription *subscription = subscription_find(connection, conversation);

        if (!change->removed)
                return subscription ? 0 : connection_subscribe(connection, change->subscription);
        if (!subscription)
                return 0;
        int r = connection_push_unsubscribe(connection, conversation);
        if (r >= 0)
                subscription_free(subscription);
        return r;
}
