/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/gateway/reattach.h"

#include "socket/gateway/attachment.h"

int connection_drop_unconfirmed(Connection *connection, const Link *link, uint64_t serial) {
        Subscription *next;

        for (Subscription *s = TAILQ_FIRST(&connection->subscriptions); s; s = next) {
                next = TAILQ_NEXT(s, in_connection);
                if (s->serial >= serial || !link_serves(link, s->channel->conversation))
                        continue;
                int r = subscription_end(s);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* It has asked to be attached, and not all its links have answered. */
static bool is_connecting(const Connection *connection) {
        return connection->state == CONNECTION_CONNECTING && !LIST_EMPTY(&connection->attachments);
}

/* It was attached before the link was connected, and is not being attached now. */
static bool needs_reattach(const Link *link, const Connection *connection) {
        return (connection->state == CONNECTION_CONNECTED || is_connecting(connection)) &&
               connection->attached_serial <= link->valid_since &&
               !connection_is_attaching(connection, link);
}

int link_reattach_some(Link *link, unsigned n) {
        while (link->next_reattach && n > 0) {
                Connection *connection = link->next_reattach;

                if (needs_reattach(link, connection)) {
                        if (attachment_new(connection, link) < 0)
                                return -ENOMEM;
                        n--;
                }
                link->next_reattach = TAILQ_NEXT(connection, in_role);
        }
        return 0;
}

void link_reattach(Link *link) {
        SocketRole *role = link->gateway->role;

        link->valid_since = role->serial++;
        link->next_reattach = TAILQ_FIRST(&role->connections);
}

void link_reattach_stop(Link *link) {
        link->next_reattach = NULL;
}

void link_reattach_skip(Link *link, const Connection *connection) {
        if (link->next_reattach == connection)
                link->next_reattach = TAILQ_NEXT(connection, in_role);
}
