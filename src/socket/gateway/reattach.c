/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/gateway/reattach.h"

#include "schema-tables.h"
#include "socket/gateway/attachment.h"
#include "socket/gateway/membership.h"
#include "util/string-util.h"

/* Attachments under way at the same time on one link, so that a restarted primary can do other work as
 * well. */
#define REATTACH_WINDOW 64U

static void reattach_some(Link *link);

/* Do the routes give this conversation to the link? */
static bool link_serves(const Link *link, const char *conversation) {
        const Gateway *gateway = link->gateway;

        return gateway->n_links == 1 ||
               streq(routes_address(gateway->role->process->routes, ROLE_GROUP, conversation),
                       link->address);
}

/* --- applying the answer --- */

/* Sends what the connection missed. */
static int catch_up(Subscription *subscription, const Sc__Subscription *now) {
        for (size_t i = 0; i < now->n_messages; i++) {
                _cleanup_(delivery_unrefp) Delivery *delivery = NULL;
                Sc__Update update = SC__UPDATE__INIT;

                update.what_case = SC__UPDATE__WHAT_MESSAGE;
                update.message = now->messages[i];
                int r = delivery_new(&delivery, now->conversation, &update);
                if (r >= 0)
                        r = subscription_deliver(subscription, delivery);
                if (r == -ECONNRESET)
                        return r;
                if (r < 0)
                        break;
        }
        if (streq(subscription->channel->epoch, now->epoch) && now->last_seq <= subscription->position)
                return 0;
        /* More is missing than the answer holds, or it is another epoch. */
        connection_disconnect(subscription->connection, DISCONNECT_INSUFFICIENT_STATE);
        return -ECONNRESET;
}

/* Ends the subscriptions of this link that the answer did not confirm: the user is no member any more. */
static int drop_unconfirmed(Connection *connection, const Attachment *attachment, const Link *link) {
        Subscription *next;

        for (Subscription *s = LIST_FIRST(&connection->subscriptions); s; s = next) {
                next = LIST_NEXT(s, in_connection);
                if (s->serial > attachment->serial || !link_serves(link, s->channel->conversation))
                        continue;
                int r = connection_push_unsubscribe(connection, s->channel->conversation);
                if (r < 0)
                        return r;
                subscription_free(s);
        }
        return 0;
}

static int apply_response(Attachment *attachment) {
        Connection *connection = attachment->connection;
        SocketRole *role = connection->role;
        const AttachmentRequest *request = &attachment->requests[0];
        const Sc__AttachResponse *response = request->response;

        role->serial++;
        FOREACH_ARRAY(now, response->subscriptions, response->n_subscriptions) {
                Subscription *subscription = subscription_find(connection, (*now)->conversation);
                if (subscription)
                        subscription->serial = role->serial;
                int r = subscription ? catch_up(subscription, *now) : connection_subscribe(connection, *now);
                if (r < 0)
                        return r;
        }
        role->statistics.reattached++;
        return request->link ? drop_unconfirmed(connection, attachment, request->link) : 0;
}

static void finish(Attachment *attachment) {
        Connection *connection = attachment->connection;
        const Link *link = attachment->requests[0].link;

        if (attachment->failure == ERROR_SESSION_REVOKED)
                return connection_disconnect(connection, DISCONNECT_SESSION_REVOKED);
        if (attachment->overflowed)
                return connection_disconnect(connection, DISCONNECT_INSUFFICIENT_STATE);
        if (attachment->failure != ERROR_NONE) {
                /* If the link is broken, everything is attached again when it is connected. */
                if (link && rpc_client_is_connected(link->client))
                        connection_disconnect(connection, DISCONNECT_SERVER_ERROR);
                return;
        }
        if (apply_response(attachment) >= 0)
                push_buffer_replay(&attachment->gateway->push_buffer, connection, attachment->serial);
}

static void on_done(Attachment *attachment) {
        Link *link = attachment->requests[0].link;

        if (attachment->connection)
                finish(attachment);
        if (!link)
                return;
        link->n_reattaching--;
        reattach_some(link);
}

/* --- one after the other --- */

static int reattach_connection(Link *link, Connection *connection) {
        Subscription *subscription;
        Attachment *attachment;
        size_t n = 0, n_positions = 0;

        LIST_FOREACH(subscription, &connection->subscriptions, in_connection)
                n++;
        _cleanup_free_ Sc__Position *positions = new0(Sc__Position, n + 1);
        _cleanup_free_ Sc__Position **pointers = new0(Sc__Position *, n + 1);
        if (!positions || !pointers)
                return -ENOMEM;
        LIST_FOREACH(subscription, &connection->subscriptions, in_connection) {
                Channel *channel = subscription->channel;
                Sc__Position *position = &positions[n_positions];

                if (!link_serves(link, channel->conversation))
                        continue;
                sc__position__init(position);
                position->conversation = channel->conversation;
                position->epoch = channel->epoch;
                position->seq = subscription->position;
                pointers[n_positions++] = position;
        }
        return attachment_new(&attachment, link->gateway, connection, link, pointers, n_positions, on_done);
}

/* It was attached before the link was connected, and is not being attached now. */
static bool needs_reattach(const Link *link, const Connection *connection) {
        return connection->state == CONNECTION_CONNECTED &&
               connection->attached_serial <= link->valid_since &&
               !connection_is_attaching(connection, link);
}

static void reattach_some(Link *link) {
        while (link->next_reattach && link->n_reattaching < REATTACH_WINDOW) {
                Connection *connection = link->next_reattach;

                link->next_reattach = TAILQ_NEXT(connection, in_role);
                if (!needs_reattach(link, connection))
                        continue;
                if (reattach_connection(link, connection) < 0)
                        connection_disconnect(connection, DISCONNECT_SERVER_ERROR);
                else
                        link->n_reattaching++;
        }
}

void link_reattach(Link *link) {
        SocketRole *role = link->gateway->role;
        Channel *channel, *next;

        link->valid_since = ++role->serial;
        HASH_ITER(hh, role->channels, channel, next)
                if (link_serves(link, channel->conversation))
                        channel->valid_since = link->valid_since;
        link->next_reattach = TAILQ_FIRST(&role->connections);
        reattach_some(link);
}

void link_reattach_stop(Link *link) {
        link->next_reattach = NULL;
}

void link_reattach_skip(Link *link, const Connection *connection) {
        if (link->next_reattach == connection)
                link->next_reattach = TAILQ_NEXT(connection, in_role);
}
