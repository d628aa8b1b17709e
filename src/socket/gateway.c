/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/gateway-private.h"

#include "schema-tables.h"
#include "util/string-util.h"

/* Memory of one push when unpacked: a message of 64 KiB and its structs, with room to spare. */
#define PUSH_ARENA_LIMIT (1U << 20)

int gateway_new(Gateway **ret, SocketRole *role) {
        Gateway *gateway = new0(Gateway, 1);
        if (!gateway)
                return -ENOMEM;
        gateway->role = role;
        LIST_INIT(&gateway->links);
        TAILQ_INIT(&gateway->attachments);
        TAILQ_INIT(&gateway->held);
        *ret = gateway;
        return 0;
}

static Link *link_free(Link *link) {
        if (!link)
                return NULL;
        link->next = NULL;
        link_lost(link, true);
        rpc_client_free(link->client);
        free(link->address);
        free(link);
        return NULL;
}
DEFINE_CLEANUP(Link *, link_free);

static void gateway_remove_link(Gateway *gateway, Link *link) {
        LIST_REMOVE(link, in_gateway);
        gateway->n_links--;
        link_free(link);
}

Gateway *gateway_free(Gateway *gateway) {
        if (!gateway)
                return NULL;
        while (!LIST_EMPTY(&gateway->links))
                gateway_remove_link(gateway, LIST_FIRST(&gateway->links));
        assert_se(TAILQ_EMPTY(&gateway->attachments) && TAILQ_EMPTY(&gateway->held));
        free(gateway);
        return NULL;
}

uint64_t gateway_serial(const Gateway *gateway) {
        return gateway->serial;
}

size_t gateway_n_links(const Gateway *gateway, size_t *ret_connected) {
        const Link *link;

        *ret_connected = 0;
        LIST_FOREACH(link, &gateway->links, in_gateway)
                *ret_connected += rpc_client_is_connected(link->client);
        return gateway->n_links;
}

/* --- pushes --- */

static void handle_deliver(Gateway *gateway, const RpcMessage *message, const Sc__Deliver *deliver) {
        Channel *channel = channel_find(gateway->role, deliver->conversation);
        _cleanup_(delivery_unrefp) Delivery *delivery = NULL;
        bool hold = !TAILQ_EMPTY(&gateway->attachments);

        if (!deliver->update || (!channel && !hold))
                return;
        int r = delivery_new(&delivery, deliver->conversation, deliver->update);
        if (r < 0) {
                /* Nothing is lost: the next one shows the gap. */
                log_error_errno(r, "Failed to take a delivery: %m");
                return;
        }
        if (hold && delivery->seq > 0)
                gateway_hold_delivery(gateway, delivery);
        unsigned n = channel ? channel_deliver(gateway->role, channel, delivery) : 0;
        log_trace(message->trace, (.conversation = deliver->conversation), "Delivered to %u connections", n);
}

static void handle_membership(
        Gateway *gateway, const RpcMessage *message, const Sc__MembershipChanged *change) {
        User *user = user_find(gateway->role, change->user);
        Session *next;

        if (!user || !change->subscription)
                return;
        if (!TAILQ_EMPTY(&gateway->attachments))
                gateway_hold_membership(gateway, message->payload, message->payload_size);
        for (Session *s = TAILQ_FIRST(&user->sessions); s; s = next) {
                next = TAILQ_NEXT(s, in_user);
                if (s->state == SESSION_CONNECTED)
                        (void) session_apply_membership(s, change);
        }
}

static void on_push(const RpcMessage *message, void *userdata) {
        Gateway *gateway = ((Link *) userdata)->gateway;
        const ProtobufCMessageDescriptor *descriptor;
        _cleanup_arena_ Arena arena;
        ProtobufCMessage *push;

        if (streq(message->method, "deliver"))
                descriptor = &sc__deliver__descriptor;
        else if (streq(message->method, "membership"))
                descriptor = &sc__membership_changed__descriptor;
        else if (streq(message->method, "kick"))
                descriptor = &sc__kick__descriptor;
        else
                return; /* of a newer group role */
        arena_init(&arena, PUSH_ARENA_LIMIT);
        int r = arena_unpack(&arena, descriptor, message->payload, message->payload_size, &push);
        if (r < 0) {
                log_error_errno(r, "Failed to read a push of the group role: %m");
                return;
        }
        gateway->serial++;
        if (descriptor == &sc__deliver__descriptor)
                handle_deliver(gateway, message, (const Sc__Deliver *) push);
        else if (descriptor == &sc__membership_changed__descriptor)
                handle_membership(gateway, message, (const Sc__MembershipChanged *) push);
        else {
                const Sc__Kick *kick = (const Sc__Kick *) push;
                user_kick(gateway->role, kick->user, kick->session);
        }
}

/* --- links --- */

static void on_connect(void *userdata) {
        Link *link = userdata;

        log_debug("Connected to the group primary at %s.", link->address);
        link_reattach(link);
        role_process_changed(link->gateway->role->process);
}

static void on_disconnect(void *userdata) {
        Link *link = userdata;

        log_warning("Lost the group primary at %s, connecting again.", link->address);
        link->next = NULL;
        link_lost(link, false);
        role_process_changed(link->gateway->role->process);
}

static int link_new(Link **ret, Gateway *gateway, const char *address) {
        static const RpcClientHandlers handlers = {
                .on_push = on_push,
                .on_connect = on_connect,
                .on_disconnect = on_disconnect,
        };
        _cleanup_(link_freep) Link *link = new0(Link, 1);
        if (!link)
                return -ENOMEM;
        link->gateway = gateway;
        link->address = strdup(address);
        if (!link->address)
                return -ENOMEM;
        int r = rpc_client_new(&link->client, gateway->role->process->event, address,
                gateway->role->conf->rpc_timeout_usec, &handlers, link);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(link);
        return 0;
}

static Link *find_link(const Gateway *gateway, const char *address) {
        Link *link;

        LIST_FOREACH(link, &gateway->links, in_gateway)
                if (streq(link->address, address))
                        return link;
        return NULL;
}

/* What of the routes goes to this address, as one number (FNV-1a). */
static uint64_t fingerprint(const Route *routes, size_t n_routes, const char *address) {
        uint64_t hash = 0xcbf29ce484222325U;

        FOREACH_ARRAY(route, routes, n_routes) {
                if (!streq(route->address, address))
                        continue;
                const uint64_t words[] = {route->first_shard, route->last_shard, route->epoch};
                FOREACH_ARRAY(word, words, ELEMENTSOF(words))
                        hash = (hash ^ *word) * 0x100000001b3U;
        }
        return hash;
}

static int ensure_link(Gateway *gateway, const Route *routes, size_t n_routes, const char *address) {
        Link *link = find_link(gateway, address);
        uint64_t table = fingerprint(routes, n_routes, address);

        if (link) {
                if (link->table != table && rpc_client_is_connected(link->client))
                        link_reattach(link); /* it may have other conversations now */
                link->table = table;
                link->wanted = true;
                return 0;
        }
        int r = link_new(&link, gateway, address);
        if (r < 0)
                return r;
        link->table = table;
        link->wanted = true;
        LIST_INSERT_HEAD(&gateway->links, link, in_gateway);
        gateway->n_links++;
        return 0;
}

static int update_links(Gateway *gateway) {
        size_t n_routes;
        const Route *routes = routes_all(gateway->role->process->routes, &n_routes);
        Link *link, *next;

        LIST_FOREACH(link, &gateway->links, in_gateway)
                link->wanted = false;
        FOREACH_ARRAY(route, routes, n_routes) {
                int r = ensure_link(gateway, routes, n_routes, route->address);
                if (r < 0)
                        return r;
        }
        for (link = LIST_FIRST(&gateway->links); link; link = next) {
                next = LIST_NEXT(link, in_gateway);
                if (!link->wanted)
                        gateway_remove_link(gateway, link);
        }
        return 0;
}

int gateway_ensure_links(Gateway *gateway) {
        return gateway->n_links > 0 ? 0 : update_links(gateway);
}

int gateway_update_routes(Gateway *gateway) {
        /* Without clients nothing is started on their account. */
        return gateway->n_links > 0 ? update_links(gateway) : 0;
}
