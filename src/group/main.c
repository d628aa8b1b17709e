/* SPDX-License-Identifier: Apache-2.0 */

/* The group role's process: every conversation, direct and group alike, and every user's inbox. */

#include "group/group-role.h"
#include "schema-tables.h"
#include "service/role.h"
#include "service/store-role.h"

static void port_push(void *gateway, const char *method, const Trace *trace, const void *payload,
        size_t size, void *userdata) {
        /* A peer that does not take it is disconnected, which peer_gone() hears. */
        (void) rpc_connection_push(gateway, method, trace, payload, size);
}

static int port_check_user(Call *call, const char *user, void *userdata) {
        Sc__AccountCheckRequest request = SC__ACCOUNT_CHECK_REQUEST__INIT;
        Sc__AccountCheckResponse *response;

        request.user = (char *) user;
        int r = call_ask(call, &method_account_check, &request.base, &response);
        if (r < 0)
                return r;
        if (!response->exists)
                return call_refuse(call, ERROR_USER_NOT_FOUND, "user");
        return 0;
}

static void port_changed(void *userdata) {
        role_process_changed(userdata);
}

static int start(RoleProcess *process, void **ret) {
        const GroupPorts ports = {
                .push = port_push,
                .check_user = port_check_user,
                .changed = port_changed,
                .userdata = process,
        };
        _cleanup_(store_closep) Store *store = NULL;
        GroupRole *role;
        int r;

        r = store_role_open(&store, process, "conversations", group_records);
        if (r < 0)
                return r;
        r = group_role_new(&role, process->event, process->conf, store, process->dispatcher, &ports);
        if (r < 0)
                return log_error_errno(r, "Failed to set up the role: %m");
        TAKE_PTR(store);
        *ret = role;
        return 0;
}
static void stop(void *role) {
        group_role_free(role);
}

static bool alive(void *role) {
        return group_role_is_alive(role);
}

static bool healthy(void *role) {
        return group_role_is_healthy(role);
}

static const char *status(void *role) {
        return group_role_status(role);
}

static size_t statistics(BusStatistic *ret, size_t max, void *role) {
        return group_role_statistics(role, ret, max);
}

static void drained(void *process) {
        role_process_stopped(process);
}

static void drain(void *role) {
        RoleProcess *process = ((GroupRole *) role)->ports.userdata;

        dispatcher_drain(process->dispatcher, drained, process);
}

static void peer_gone(RpcConnection *connection, void *role) {
        group_role_forget_gateway(role, connection);
}

int main(int argc, char *argv[]) {
        static const RoleHooks hooks = {
                .name = "group",
                .bus_name = "org.stonechat.Group",
                .description = "Conversations: the order of messages, their storage and delivery.",
                .methods = group_methods,
                .start = start,
                .stop = stop,
                .alive = alive,
                .healthy = healthy,
                .status = status,
                .statistics = statistics,
                .peer_gone = peer_gone,
                .drain = drain,
        };
        return role_main(argc, argv, &hooks);
}
