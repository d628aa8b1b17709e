/* SPDX-License-Identifier: Apache-2.0 */
#include "service/routes.h"

#include "log/log.h"
#include "util/id.h"
#include "util/string-util.h"

#define ARBITER_NAME "org.stonechat.Arbiter"
#define ARBITER_PATH "/org/stonechat/Arbiter"
#define ARBITER_INTERFACE "org.stonechat.Arbiter1"
#define ROUTES_MAX SHARDS_DEFAULT

struct Routes {
        sd_bus *bus;
        sd_bus_slot *changed_slot, *owner_slot, *get_slot;
        bool again; /* they changed while they were being read */
        char *addresses[ROLE_ARBITER + 1]; /* of this host's roles */
        Route local; /* while no arbiter has spoken */
        Route *routes; /* what the arbiter says, NULL: nothing yet */
        size_t n_routes;
        void (*changed)(void *userdata);
        void *userdata;
};

static void route_array_free(Route *routes, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(routes[i].host);
                free(routes[i].address);
        }
        free(routes);
}

/* Reads a(uusts). Refuses a table that is not complete, so that the one in force stays. */
static int read_routes(sd_bus_message *message, Route **ret, size_t *ret_n) {
        Route *routes = new0(Route, ROUTES_MAX);
        size_t n = 0;
        int r;

        if (!routes)
                return -ENOMEM;
        r = sd_bus_message_enter_container(message, 'a', "(uusts)");
        while (r >= 0) {
                const char *host, *address;
                uint32_t first, last;
                uint64_t epoch;

                r = sd_bus_message_read(message, "(uusts)", &first, &last, &host, &epoch, &address);
                if (r <= 0)
                        break;
                if (n >= ROUTES_MAX || first > last || last >= SHARDS_DEFAULT || !*address) {
                        r = -EBADMSG;
                        break;
                }
                routes[n] = (Route){first, last, strdup(host), epoch, strdup(address)};
                if (!routes[n].host || !routes[n].address)
                        r = -ENOMEM;
                n++;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(message);
        if (r < 0 || n == 0) {
                route_array_free(routes, n);
                return r < 0 ? r : -ENODATA;
        }
        *ret = routes;
        *ret_n = n;
        return 0;
}

static int request_routes(Routes *routes);

static int on_routes(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Routes *routes = userdata;
        Route *new_routes;
        size_t n;

        routes->get_slot = sd_bus_slot_unref(routes->get_slot);
        if (TAKE_GENERIC(routes->again, false) && request_routes(routes) < 0)
                log_warning("Failed to ask the arbiter for routes again.");
        if (sd_bus_message_is_method_error(reply, NULL)) {
                log_debug("No routes from the arbiter: %s", sd_bus_message_get_error(reply)->message);
                return 0;
        }
        int r = sd_bus_message_enter_container(reply, 'v', "a(uusts)");
        if (r >= 0)
                r = read_routes(reply, &new_routes, &n);
        if (r < 0) {
                log_warning_errno(r, "The arbiter's routes make no sense, keeping those in force: %m");
                return 0;
        }
        route_array_free(routes->routes, routes->n_routes);
        routes->routes = new_routes;
        routes->n_routes = n;
        if (routes->changed)
                routes->changed(routes->userdata);
        return 0;
}

/* A reading under way goes on, whatever comes meanwhile: it is made once more afterwards. */
static int request_routes(Routes *routes) {
        if (routes->get_slot) {
                routes->again = true;
                return 0;
        }
        return sd_bus_call_method_async(routes->bus, &routes->get_slot, ARBITER_NAME, ARBITER_PATH,
                "org.freedesktop.DBus.Properties", "Get", on_routes, routes, "ss", ARBITER_INTERFACE,
                "Routes");
}

/* The signal may be lost or late, so the property is read, not the signal. */
static int on_hint(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Routes *routes = userdata;

        if (streq(sd_bus_message_get_member(message), "NameOwnerChanged")) {
                const char *name, *old_owner, *new_owner;
                int r = sd_bus_message_read(message, "sss", &name, &old_owner, &new_owner);
                if (r < 0 || isempty(new_owner)) /* an arbiter that dies changes nothing */
                        return 0;
        }
        int r = request_routes(routes);
        if (r < 0)
                log_warning_errno(r, "Failed to ask the arbiter for routes: %m");
        return 0;
}

static int watch_arbiter(Routes *routes) {
        int r = sd_bus_match_signal_async(routes->bus, &routes->changed_slot, ARBITER_NAME, ARBITER_PATH,
                "org.freedesktop.DBus.Properties", "PropertiesChanged", on_hint, NULL, routes);
        if (r < 0)
                return r;
        r = sd_bus_add_match_async(routes->bus, &routes->owner_slot,
                "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" ARBITER_NAME
                "'",
                on_hint, NULL, routes);
        if (r < 0)
                return r;
        return request_routes(routes);
}

static int set_local_addresses(Routes *routes) {
        static const char *const names[] = {
                [ROLE_API] = "api",
                [ROLE_SOCKET] = "socket",
                [ROLE_GROUP] = "group",
                [ROLE_ARBITER] = "arbiter",
        };
        const char *directory = getenv("STONECHAT_RUNTIME_DIRECTORY") ?: ROUTES_DIRECTORY;

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (names[i] &&
                        !(routes->addresses[i] = format_string("%s/%s/rpc.sock", directory, names[i])))
                        return -ENOMEM;
        routes->local = (Route){
                .last_shard = SHARDS_DEFAULT - 1,
                .host = strdup("local"),
                .address = strdup(routes->addresses[ROLE_GROUP]),
        };
        return routes->local.host && routes->local.address ? 0 : -ENOMEM;
}

int routes_new(Routes **ret, sd_bus *bus, void (*changed)(void *userdata), void *userdata) {
        _cleanup_(routes_freep) Routes *routes = new0(Routes, 1);
        if (!routes)
                return -ENOMEM;
        routes->changed = changed;
        routes->userdata = userdata;
        int r = set_local_addresses(routes);
        if (r < 0)
                return r;
        if (bus) {
                routes->bus = sd_bus_ref(bus);
                r = watch_arbiter(routes);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(routes);
        return 0;
}

Routes *routes_free(Routes *routes) {
        if (!routes)
                return NULL;
        sd_bus_slot_unref(routes->changed_slot);
        sd_bus_slot_unref(routes->owner_slot);
        sd_bus_slot_unref(routes->get_slot);
        sd_bus_unref(routes->bus);
        for (size_t i = 0; i < ELEMENTSOF(routes->addresses); i++)
                free(routes->addresses[i]);
        free(routes->local.host);
        free(routes->local.address);
        route_array_free(routes->routes, routes->n_routes);
        free(routes);
        return NULL;
}

const Route *routes_all(const Routes *routes, size_t *ret_n) {
        *ret_n = routes->routes ? routes->n_routes : 1;
        return routes->routes ?: &routes->local;
}

const char *routes_address(const Routes *routes, Role role, const char *key) {
        size_t n;
        const Route *all = routes_all(routes, &n);

        if (role != ROLE_GROUP)
                return routes->addresses[role];
        if (key) {
                unsigned shard = shard_of(key, SHARDS_DEFAULT);
                for (size_t i = 0; i < n; i++)
                        if (shard >= all[i].first_shard && shard <= all[i].last_shard)
                                return all[i].address;
        }
        return all[0].address;
}
