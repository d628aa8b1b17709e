/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The skeleton of a role's process: arguments, configuration, log, loop, signals, activated sockets, bus,
 * watchdog, readiness, reload and an orderly end. A role's main() names itself and gives the hooks.
 *
 * Signals: SIGTERM and SIGINT end, SIGHUP reloads (so does the bus method Reload, which ExecReload= waits
 * for). The watchdog is fed by a timer on the loop, and only while hooks->alive() says that the worker
 * threads live. */

#include "bus/bus.h"
#include "conf/conf.h"
#include "service/dispatcher.h"

typedef struct RoleProcess RoleProcess;
typedef struct WebLoop WebLoop;

/* The event loop of a role that serves the web, which sd-event is nested in: role_web of service/role-web.h.
 * role.c reaches it through these pointers only, so that a role without web is not linked with web's
 * libraries. */
typedef struct RoleWeb {
        int (*loop_new)(WebLoop **ret, sd_event *event);
        int (*loop_run)(WebLoop *loop);
        WebLoop *(*loop_free)(WebLoop *loop);
} RoleWeb;

typedef struct RoleHooks {
        const char *name; /* "api" */
        const char *bus_name; /* "org.stonechat.Api"; an instance adds ".I" and its name */
        const char *description; /* for --help: one sentence */
        const MethodBinding *methods; /* this role's own, or NULL */
        const RoleWeb *web; /* &role_web; NULL: sd-event's own loop */
        /* Sets up the role: everything of RoleProcess stands. *ret becomes Call.role and the userdata of the
         * other hooks. */
        int (*start)(RoleProcess *process, void **ret);
        void (*stop)(void *role); /* frees it; what is queued in a store is committed */
        void (*reload)(void *role); /* process->conf and the credentials may have changed; optional */
        bool (*healthy)(void *role); /* can do its work now; optional: whenever alive */
        bool (*alive)(void *role); /* worker threads live; optional */
        const char *(*status)(void *role); /* one line for STATUS= and StatusText */
        size_t (*statistics)(BusStatistic *ret, size_t max, void *role);
        void (*peer_gone)(RpcConnection *connection, void *role); /* optional */
        void (*routes_changed)(void *role); /* optional */
        /* Begins to drain: no new work; call role_process_stopped() when done. Optional: ends at once. */
        void (*drain)(void *role);
} RoleHooks;

struct RoleProcess {
        const RoleHooks *hooks;
        const char *instance; /* "1" of stonechat-socket@1, or "" */
        sd_event *event;
        WebLoop *web_loop; /* NULL if !hooks->web */
        sd_bus *bus; /* may be NULL */
        Conf *conf;
        Routes *routes;
        Dispatcher *dispatcher;
        void *role;
        /* further members are private to role.c */
};

/* An activated listening socket by its FileDescriptorName=, which the caller then owns; -ENOENT if there is
 * none. Without socket activation, for tests, --listen NAME=ADDRESS on the command line makes one (ADDRESS:
 * HOST:PORT or a path). */
int role_process_take_socket(RoleProcess *process, const char *name);

/* The state directory of this role ($STATE_DIRECTORY), or the current one. */
const char *role_process_state_directory(const RoleProcess *process);

/* From hooks->reload(): what was not taken, for the journal and for whoever asked for the reload, which then
 * has failed. */
void role_process_problem(RoleProcess *process, const char *format, ...) _printf_(2, 3);

void role_process_stopped(RoleProcess *process);
/* Status text or health has changed: tells systemd and the bus, at most once a loop turn. */
void role_process_changed(RoleProcess *process);

/* main() of every role: `return role_main(argc, argv, &hooks);` */
int role_main(int argc, char *argv[], const RoleHooks *hooks);
