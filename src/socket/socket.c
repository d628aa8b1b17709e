/* SPDX-License-Identifier: Apache-2.0 */

/* stonechat-socket: the program. */

#include "service/role-web.h"
#include "socket/gateway/gateway.h"
#include "socket/socket-role.h"

static int start(RoleProcess *process, void **ret) {
        _cleanup_(socket_role_freep) SocketRole *role = NULL;
        TokenVerifier *verifier;

        int r = token_verifier_new(&verifier, process->event, 0);
        if (r < 0)
                return log_error_errno(r, "Failed to load the credential " TOKEN_PUBLIC_CREDENTIAL ": %m");
        r = socket_role_new(&role, process, verifier);
        if (r < 0)
                return log_error_errno(r, "Failed to set up: %m");
        r = socket_role_serve(role);
        if (r < 0)
                return log_error_errno(r, "Failed to set up the web server: %m");
        r = role_web_listen(process, role->server, "websocket", "websocket-tls");
        if (r < 0)
                return r;
        *ret = TAKE_PTR(role);
        return 0;
}

static void stop(void *role) {
        socket_role_free(role);
}

static bool alive(void *role) {
        return socket_role_is_alive(role);
}

static void reload(void *role) {
        SocketRole *socket_role = role;

        role_web_reload(socket_role->process, socket_role->server);
        socket_role_reload(socket_role);
}

static void drain(void *role) {
        socket_role_drain(role);
}

static const char *status(void *role) {
        return socket_role_status(role);
}

static size_t statistics(BusStatistic *ret, size_t max, void *role) {
        return socket_role_statistics(role, ret, max);
}

static void routes_changed(void *role) {
        SocketRole *socket_role = role;

        int r = gateway_update_routes(socket_role->gateway);
        if (r < 0)
                log_error_errno(r, "Failed to follow the routes: %m");
}

static const RoleHooks hooks = {
        .name = "socket",
        .bus_name = "org.stonechat.Socket",
        .description = "Serves Stonechat's client connections.",
        .web = &role_web,
        .start = start,
        .stop = stop,
        .reload = reload,
        .alive = alive,
        .drain = drain,
        .status = status,
        .statistics = statistics,
        .routes_changed = routes_changed,
};

int main(int argc, char *argv[]) {
        return role_main(argc, argv, &hooks);
}
