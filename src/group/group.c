/* SPDX-License-Identifier: Apache-2.0 */

/* The group role's process: every conversation, direct and group alike. */

#include "group/group-role.h"
#include "schema-tables.h"
#include "service/role.h"
#include "util/string-util.h"

#define STORE_FILE "conversations.db"

static void port_push(void *gateway, const char *method, const Trace *trace, const void *payload,
        size_t size, void *userdata) {
        /* A peer that does not take it is disconnected, which port peer_gone() hears. */
        (void) rpc_connection_push(gateway, method, trace, payload, size);
}

static int port_find_user(const char *user, const Trace *trace, const Sc__Caller *caller, CallDone done,
        void *done_userdata, void *userdata) {
        RoleProcess *process = userdata;
        Sc__UserGetRequest request = SC__USER_GET_REQUEST__INIT;

        request.user = (char *) user;
        return dispatcher_call(
                process->dispatcher, &method_user_get, &request.base, trace, caller, done, done_userdata);
}

static void port_changed(void *userdata) {
        role_process_changed(userdata);
}

static int start(RoleProcess *process, void **ret) {
        _cleanup_free_ char *path = NULL;
        const GroupPorts ports = {
                .push = port_push,
                .find_user = port_find_user,
                .changed = port_changed,
                .userdata = process,
        };
        GroupRole *role;
        int r;

        path = format_string("%s/" STORE_FILE, role_process_state_directory(process));
        if (!path)
                return log_oom();
        r = group_role_new(&role, process->event, process->conf, path, &ports);
        if (r == -EUCLEAN)
                return log_error_errno(r, "%s was written by a newer version of Stonechat.", path);
        if (r == -ENOTUNIQ)
                return log_error_errno(r, "%s is in use by another process.", path);
        if (r < 0)
                return log_error_errno(r, "Failed to open %s: %m", path);
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
