/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/gateway/gateway.h"

#include "schema-tables.h"
#include "socket/gateway/attach-batch.h"
#include "socket/gateway/catch-up.h"
#include "socket/gateway/push.h"
#include "socket/gateway/reattach.h"
#include "util/string-util.h"

/* The SDKs give up a command after 5 s; the answer should be there before. */
#define ATTACH_TIMEOUT_SEC 4U

int gateway_new(Gateway **ret, SocketRole *role) {
        Gateway *gateway = new0(Gateway, 1);
        if (!gateway)
                return -ENOMEM;
        gateway->role = role;
        LIST_INIT(&gateway->links);
        int r = catch_up_init(gateway);
        if (r < 0) {
                free(gateway);
                return r;
        }
        *ret = gateway;
        return 0;
}

static Link *link_free(Link *link) {
        if (!link)
                return NULL;
        link_reattach_stop(link);
        if (link->client)
                link_drop_attachments(link);
        rpc_client_free(link->client);
        sd_event_source_disable_unref(link->retry);
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
        catch_up_stop(gateway);
        while (!LIST_EMPTY(&gateway->links))
                gateway_remove_link(gateway, LIST_FIRST(&gateway->links));
        free(gateway);
        return NULL;
}

size_t gateway_n_links(const Gateway *gateway, size_t *ret_connected) {
        const Link *link;

        *ret_connected = 0;
        LIST_FOREACH(link, &gateway->links, in_gateway)
                *ret_connected += rpc_client_is_connected(link->client);
        return gateway->n_links;
}

/* --- links --- */

static void on_push(const RpcMessage *message, void *userdata) {
        Link *link = userdata;

        gateway_handle_push(link->gateway, message);
}

static void on_connect(void *userdata) {
        Link *link = userdata;

        log_debug("Connected to the group primary at %s.", link->address);
        link_reattach(link);
        link_send_attachments(link);
        role_process_changed(link->gateway->role->process);
}

static void on_disconnect(void *userdata) {
        Link *link = userdata;

        log_warning("Lost the group primary at %s, connecting again.", link->address);
        link_reattach_stop(link);
        link_recall_attachments(link);
        role_process_changed(link->gateway->role->process);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Link *link = userdata;

        link->retrying = false;
        link_send_attachments(link);
        return 0;
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
        TAILQ_INIT(&link->waiting);
        LIST_INIT(&link->batches);
        link->address = strdup(address);
        if (!link->address)
                return -ENOMEM;
        const RpcClientConfig config = {
                .address = address,
                .timeout_usec = gateway->role->conf->rpc_timeout_usec,
                .role = ROLE_SOCKET,
        };
        int r = sd_event_add_time(
                gateway->role->process->event, &link->retry, CLOCK_BOOTTIME, 0, 0, on_retry, link);
        if (r >= 0)
                r = sd_event_source_set_enabled(link->retry, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = rpc_client_new(&link->client, gateway->role->process->event, &config, &handlers, link);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(link);
        return 0;
}

/* A hash (FNV-1a) of the shards that the routes give to this address, and of their epochs. */
static uint64_t hash_shards(const Route *routes, size_t n_routes, const char *address) {
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
        Link *link = gateway_find_link(gateway, address);
        uint64_t shards_hash = hash_shards(routes, n_routes, address);

        if (link) {
                bool moved = link->shards_hash != shards_hash;
                link->shards_hash = shards_hash;
                link->in_routes = true;
                if (moved && rpc_client_is_connected(link->client)) {
                        link_reattach(link); /* it may have other conversations now */
                        link_send_attachments(link);
                }
                return 0;
        }
        int r = link_new(&link, gateway, address);
        if (r < 0)
                return r;
        link->shards_hash = shards_hash;
        link->in_routes = true;
        LIST_INSERT_HEAD(&gateway->links, link, in_gateway);
        gateway->n_links++;
        return 0;
}

static int update_links(Gateway *gateway) {
        size_t n_routes;
        const Route *routes = routes_all(gateway->role->process->routes, &n_routes);
        Link *link, *next;

        LIST_FOREACH(link, &gateway->links, in_gateway)
                link->in_routes = false;
        FOREACH_ARRAY(route, routes, n_routes) {
                int r = ensure_link(gateway, routes, n_routes, route->address);
                if (r < 0)
                        return r;
        }
        for (link = LIST_FIRST(&gateway->links); link; link = next) {
                next = LIST_NEXT(link, in_gateway);
                if (!link->in_routes)
                        gateway_remove_link(gateway, link);
        }
        return 0;
}

int gateway_update_routes(Gateway *gateway) {
        /* Before the first client there are no links, so that no group role is started. */
        return gateway->n_links > 0 ? update_links(gateway) : 0;
}

/* --- attaching --- */

int gateway_attach(Gateway *gateway, Connection *connection, GatewayAttached attached) {
        SocketRole *role = gateway->role;
        Link *link;

        int r = gateway->n_links > 0 ? 0 : update_links(gateway);
        if (r >= 0 && gateway->n_links == 0)
                r = -ENOTCONN; /* the routes name no primary */
        LIST_FOREACH(link, &gateway->links, in_gateway)
                if (r >= 0)
                        r = attachment_new(connection, link);
        if (r < 0)
                return r;
        gateway->attached = attached;
        connection->attached_serial = role->serial;
        timer_wheel_set(&role->timer_wheel, &connection->deadline, timer_wheel_clock() + ATTACH_TIMEOUT_SEC);
        LIST_FOREACH(link, &gateway->links, in_gateway)
                link_send_attachments(link);
        return 0;
}

void gateway_attach_late(Connection *connection) {
        connection_attach_late(connection);
}

void gateway_detach(Gateway *gateway, Connection *connection) {
        Link *link;

        LIST_FOREACH(link, &gateway->links, in_gateway)
                link_reattach_skip(link, connection);
        catch_up_forget(gateway, connection);
        connection_detach(gateway, connection);
}
