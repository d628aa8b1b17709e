/* SPDX-License-Identifier: Apache-2.0 */

/* The process around a role. role_main() has these phases: arguments, configuration, loop, role, ready, run,
 * end. process_done() undoes them, whichever phase was reached. */

#include "service/role.h"

#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

#include "log/message-ids.h"
#include "service/credential.h"
#include "service/identity.h"
#include "service/listen.h"
#include "util/bytes.h"
#include "util/memory.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define HOUSEKEEPING_USEC (5 * USEC_PER_SEC)
#define DRAIN_MAX_USEC (10 * USEC_PER_SEC)

typedef struct Process {
        RoleProcess shared; /* with the role */
        ListenSockets *sockets;
        ConfSource conf_source;
        const char *conf_directories[2];
        sd_event_source *housekeeping, *change, *drain_timer;
        uint64_t watchdog_usec; /* 0: none */
        MemoryWatch memory;
        char last_status[256];
        bool degraded; /* told the journal that the role is not healthy */
        bool stopping;
        Buffer problems; /* of the reload under way */
        unsigned n_problems;
} Process;

static Process *process_of(RoleProcess *shared) {
        return CONTAINER_OF(shared, Process, shared);
}

int role_process_take_socket(RoleProcess *process, const char *name) {
        return listen_sockets_take(process_of(process)->sockets, name);
}

const char *role_process_state_directory(const RoleProcess *process) {
        return getenv("STATE_DIRECTORY") ?: ".";
}

/* --- status and watchdog --- */

static const char *role_status(const RoleProcess *process) {
        return process->hooks->status ? process->hooks->status(process->role) : "Running";
}

static bool role_alive(const RoleProcess *process) {
        return !process->hooks->alive || process->hooks->alive(process->role);
}

static bool role_healthy(const RoleProcess *process) {
        return role_alive(process) && (!process->hooks->healthy || process->hooks->healthy(process->role));
}

static void publish_status(Process *process) {
        const char *status = role_status(&process->shared);

        if (process->stopping || streq(status, process->last_status))
                return;
        snprintf(process->last_status, sizeof(process->last_status), "%s", status);
        sd_notifyf(false, "STATUS=%s", status);
        if (process->shared.bus)
                bus_role_changed(process->shared.bus);
}

static void note_health(Process *process) {
        bool healthy = role_healthy(&process->shared);

        if (process->stopping || healthy == !process->degraded)
                return;
        process->degraded = !healthy;
        if (healthy)
                log_with((.message_id = MESSAGE_ID_ROLE_RECOVERED), LOG_NOTICE, "Healthy again: %s.",
                        role_status(&process->shared));
        else
                log_with((.message_id = MESSAGE_ID_ROLE_DEGRADED), LOG_WARNING, "Not healthy: %s.",
                        role_status(&process->shared));
}

static int on_housekeeping(sd_event_source *source, uint64_t usec, void *userdata) {
        Process *process = userdata;

        if (process->watchdog_usec > 0) {
                if (role_alive(&process->shared))
                        sd_notify(false, "WATCHDOG=1");
                else
                        log_error("A worker thread is stuck; leaving the watchdog unfed.");
        }
        publish_status(process);
        note_health(process);
        (void) memory_give_back(&process->memory);
        log_report_lost();
        return sd_event_source_set_time_relative(
                source, process->watchdog_usec > 0 ? MIN(process->watchdog_usec / 3, HOUSEKEEPING_USEC)
                                                   : HOUSEKEEPING_USEC);
}

static int on_change(sd_event_source *source, void *userdata) {
        Process *process = userdata;

        publish_status(process);
        note_health(process);
        if (process->shared.bus)
                bus_role_changed(process->shared.bus);
        return 0;
}

void role_process_changed(RoleProcess *shared) {
        Process *process = process_of(shared);

        if (process->change)
                (void) sd_event_source_set_enabled(process->change, SD_EVENT_ONESHOT);
}

/* --- the end --- */

void role_process_stopped(RoleProcess *process) {
        (void) sd_event_exit(process->event, 0);
}

static int on_drain_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        log_warning("Draining took too long, ending now.");
        role_process_stopped(userdata);
        return 0;
}

static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Process *process = userdata;
        RoleProcess *shared = &process->shared;

        if (process->stopping)
                return 0;
        process->stopping = true;
        sd_notify(false, "STOPPING=1\nSTATUS=Stopping");
        log_with((.message_id = MESSAGE_ID_ROLE_STOPPING), LOG_INFO, "Stopping.");
        if (!shared->hooks->drain) {
                role_process_stopped(shared);
                return 0;
        }
        int r = sd_event_add_time_relative(shared->event, &process->drain_timer, CLOCK_BOOTTIME,
                DRAIN_MAX_USEC, 0, on_drain_timeout, shared);
        if (r < 0)
                role_process_stopped(shared);
        shared->hooks->drain(shared->role);
        return 0;
}

/* --- configuration --- */

static void report_problem(const char *problem, void *userdata) {
        Process *process = userdata;

        log_with((.message_id = MESSAGE_ID_CONFIGURATION_PROBLEM), LOG_WARNING, "%s", problem);
        process->n_problems++;
        (void) buffer_append_string(&process->problems, problem);
        (void) buffer_append_string(&process->problems, "\n");
}

void role_process_problem(RoleProcess *shared, const char *format, ...) {
        char text[256];
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        report_problem(text, process_of(shared));
}

static void reload(Process *process, sd_bus_message *call) {
        RoleProcess *shared = &process->shared;

        sd_notifyf(false, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=Reloading",
                now_usec(CLOCK_MONOTONIC));
        buffer_done(&process->problems);
        process->problems.limit = 64U << 10;
        process->n_problems = 0;
        int n_changed = conf_reload(shared->conf, &process->conf_source, report_problem, process);
        if (n_changed < 0)
                log_error_errno(n_changed, "Failed to reload the configuration: %m");
        else {
                int level = log_level_from_string(shared->conf->log_level);
                if (level >= 0)
                        log_set_level(level);
                if (shared->hooks->reload)
                        shared->hooks->reload(shared->role);
                log_with((.message_id = MESSAGE_ID_RELOADED), LOG_INFO,
                        "Reloaded the configuration, values changed: %d, problems: %u%s.", n_changed,
                        process->n_problems,
                        process->n_problems > 0 ? " (what is bad was not taken: the old value stays)" : "");
        }
        if (call) {
                (void) buffer_append(&process->problems, "", 1);
                bus_reload_done(call, process->n_problems,
                        process->problems.error < 0 ? "" : (const char *) process->problems.data);
        }
        buffer_done(&process->problems);
        process->last_status[0] = 0;
        sd_notify(false, "READY=1");
        publish_status(process);
}

static int on_reload_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        reload(userdata, NULL);
        return 0;
}

/* --- what the bus asks --- */

static bool bus_healthy(void *userdata) {
        return role_healthy(&((Process *) userdata)->shared);
}

static const char *bus_status(void *userdata) {
        return role_status(&((Process *) userdata)->shared);
}

static size_t bus_statistics(BusStatistic *ret, size_t max, void *userdata) {
        RoleProcess *shared = &((Process *) userdata)->shared;

        size_t n = shared->hooks->statistics ? shared->hooks->statistics(ret, max, shared->role) : 0;
        if (shared->hooks->methods)
                n += dispatcher_statistics(shared->dispatcher, ret + n, max - n);
        return n;
}

static void bus_reload(sd_bus_message *call, void *userdata) {
        reload(userdata, call);
}

static int bus_credential(const char *name, int fd, void *userdata) {
        return credential_renew(name, fd);
}

static int export_on_bus(Process *process) {
        RoleProcess *shared = &process->shared;
        static BusRoleHandlers handlers = {
                .healthy = bus_healthy,
                .status = bus_status,
                .statistics = bus_statistics,
                .reload = bus_reload,
                .credential = bus_credential,
        };
        _cleanup_free_ char *name = NULL;

        if (!shared->bus)
                return 0;
        handlers.role = shared->hooks->name;
        name = isempty(shared->instance)
                       ? strdup(shared->hooks->bus_name)
                       : format_string("%s.I%s", shared->hooks->bus_name, shared->instance);
        if (!name)
                return -ENOMEM;
        return bus_export_role(shared->bus, name, &handlers, process, NULL);
}

/* --- phases --- */

static void print_help(const RoleHooks *hooks) {
        printf("stonechat-%s [OPTION …]\n\n%s\nRuns as a systemd unit; see stonechat(7).\n\n"
               "  -h --help                 Show this help\n"
               "     --version              Show the version\n"
               "     --instance=NAME        Name of this instance of several\n"
               "     --listen=NAME=ADDRESS  Listen on HOST:PORT or /PATH as if systemd had passed a socket "
               "of that name\n"
               "     --config-directory=DIR Read the configuration there only\n"
               "     --check-config         Check the configuration and exit\n",
                hooks->name, hooks->description);
}

/* 1: go on, 0: done, negative: failed. */
static int parse_arguments(Process *process, int argc, char *argv[], bool *ret_check) {
        enum {
                ARG_VERSION = 256,
                ARG_INSTANCE,
                ARG_LISTEN,
                ARG_CONFIG_DIRECTORY,
                ARG_CHECK_CONFIG,
        };
        static const struct option options[] = {
                {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, ARG_VERSION},
                {"instance", required_argument, NULL, ARG_INSTANCE},
                {"listen", required_argument, NULL, ARG_LISTEN},
                {"config-directory", required_argument, NULL, ARG_CONFIG_DIRECTORY},
                {"check-config", no_argument, NULL, ARG_CHECK_CONFIG},
                {},
        };
        int c, r;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case 'h':
                        print_help(process->shared.hooks);
                        return 0;
                case ARG_VERSION:
                        puts("stonechat " STONECHAT_VERSION);
                        return 0;
                case ARG_INSTANCE:
                        process->shared.instance = optarg;
                        break;
                case ARG_LISTEN:
                        r = listen_sockets_add(process->sockets, optarg);
                        if (r < 0)
                                return log_error_errno(r, "Failed to listen on %s: %m", optarg);
                        break;
                case ARG_CONFIG_DIRECTORY:
                        process->conf_directories[0] = optarg;
                        process->conf_source.dirs = process->conf_directories;
                        break;
                case ARG_CHECK_CONFIG:
                        *ret_check = true;
                        break;
                default:
                        return -EINVAL;
                }
        if (optind < argc)
                return log_error_errno(-EINVAL, "Unexpected argument '%s'.", argv[optind]);
        return 1;
}

static int load_configuration(Process *process) {
        process->conf_source.environment = environ;
        int r = conf_load(&process->conf_source, report_problem, process, &process->shared.conf);
        buffer_done(&process->problems);
        if (r < 0)
                return log_error_errno(r, "The configuration is not valid: %m");
        log_set_level(log_level_from_string(process->shared.conf->log_level));
        return 0;
}

static int add_signals(Process *process) {
        static const struct {
                int signal;
                sd_event_signal_handler_t handler;
        } signals[] = {
                {SIGTERM, on_terminate},
                {SIGINT, on_terminate},
                {SIGHUP, on_reload_signal},
        };

        signal(SIGPIPE, SIG_IGN);
        FOREACH_ARRAY(s, signals, ELEMENTSOF(signals)) {
                /* Blocked here, before any thread starts, so that they all inherit the mask. */
                sigset_t mask;
                sigemptyset(&mask);
                sigaddset(&mask, s->signal);
                sigprocmask(SIG_BLOCK, &mask, NULL);
                int r = sd_event_add_signal(process->shared.event, NULL, s->signal, s->handler, process);
                if (r < 0)
                        return log_error_errno(r, "Failed to watch a signal: %m");
        }
        return 0;
}

static void on_routes_changed(void *userdata) {
        Process *process = userdata;

        if (process->shared.dispatcher)
                dispatcher_routes_changed(process->shared.dispatcher);
        if (process->shared.role && process->shared.hooks->routes_changed)
                process->shared.hooks->routes_changed(process->shared.role);
}

static int set_up(Process *process) {
        RoleProcess *shared = &process->shared;

        int r = identity_load();
        if (r < 0)
                return log_error_errno(r, "Failed to look up the users of the roles: %m");
        r = sd_event_default(&shared->event);
        if (r < 0)
                return log_error_errno(r, "Failed to make the event loop: %m");
        r = add_signals(process);
        if (r < 0)
                return r;
        if (shared->hooks->web) {
                r = shared->hooks->web->loop_new(&shared->web_loop, shared->event);
                if (r < 0)
                        return log_error_errno(r, "Failed to make the web loop: %m");
        }
        r = bus_open(shared->event, &shared->bus);
        if (r < 0)
                return log_error_errno(r, "Failed to connect to the system bus: %m");
        r = routes_new(&shared->routes, shared->bus, on_routes_changed, process);
        if (r < 0)
                return log_error_errno(r, "Failed to watch the routes: %m");
        r = dispatcher_new(&shared->dispatcher, shared->event, shared->routes, shared->hooks->methods,
                shared->conf->rpc_timeout_usec);
        if (r < 0)
                return log_oom();
        dispatcher_set_identity(shared->dispatcher, role_from_string(shared->hooks->name), identity_of_peer);
        r = sd_event_add_defer(shared->event, &process->change, on_change, process);
        if (r >= 0)
                r = sd_event_source_set_enabled(process->change, SD_EVENT_OFF);
        if (r < 0)
                return log_error_errno(r, "Failed to set up the loop: %m");
        return 0;
}

static int start_role(Process *process) {
        RoleProcess *shared = &process->shared;

        int r = shared->hooks->start(shared, &shared->role);
        if (r < 0)
                return log_error_errno(r, "Failed to start: %m");
        dispatcher_set_role(shared->dispatcher, shared->role);
        int fd = role_process_take_socket(shared, "rpc");
        if (fd >= 0) {
                r = dispatcher_serve(shared->dispatcher, fd, shared->hooks->peer_gone);
                if (r < 0)
                        return log_error_errno(r, "Failed to serve the internal RPC: %m");
        }
        r = export_on_bus(process);
        if (r < 0)
                return log_error_errno(r, "Failed to export the role on the bus: %m");
        if (sd_watchdog_enabled(false, &process->watchdog_usec) <= 0)
                process->watchdog_usec = 0;
        r = sd_event_add_time_relative(
                shared->event, &process->housekeeping, CLOCK_BOOTTIME, 0, 0, on_housekeeping, process);
        if (r >= 0)
                r = sd_event_source_set_enabled(process->housekeeping, SD_EVENT_ON);
        if (r < 0)
                return log_error_errno(r, "Failed to set up housekeeping: %m");
        return 0;
}

static void process_done(Process *process) {
        RoleProcess *shared = &process->shared;

        if (shared->dispatcher)
                dispatcher_stop_calls(shared->dispatcher);
        /* While the peers are still connected, so that what the role commits at its end is answered. */
        if (shared->role)
                shared->hooks->stop(shared->role);
        shared->role = NULL;
        dispatcher_free(shared->dispatcher);
        routes_free(shared->routes);
        sd_event_source_disable_unref(process->housekeeping);
        sd_event_source_disable_unref(process->change);
        sd_event_source_disable_unref(process->drain_timer);
        sd_bus_flush_close_unref(shared->bus);
        if (shared->web_loop)
                shared->hooks->web->loop_free(shared->web_loop);
        sd_event_unref(shared->event);
        conf_free(shared->conf);
        listen_sockets_free(process->sockets);
        buffer_done(&process->problems);
}

static int run(Process *process) {
        RoleProcess *shared = &process->shared;

        sd_notifyf(false, "READY=1\nSTATUS=%s", role_status(shared));
        log_with((.message_id = MESSAGE_ID_ROLE_READY), LOG_INFO,
                "Ready: stonechat-%s " STONECHAT_VERSION ".", shared->hooks->name);
        int r = shared->web_loop ? shared->hooks->web->loop_run(shared->web_loop)
                                 : sd_event_loop(shared->event);
        if (r < 0)
                return log_error_errno(r, "The event loop failed: %m");
        return 0;
}

int role_main(int argc, char *argv[], const RoleHooks *hooks) {
        _cleanup_(process_done) Process process = {.shared = {.hooks = hooks, .instance = ""}};
        char identifier[64];
        bool check = false;

        snprintf(identifier, sizeof(identifier), "stonechat-%s", hooks->name);
        log_open(identifier, LOG_INFO);
        memory_share_heap();
        if (sodium_init() < 0)
                return log_error("Failed to initialise libsodium."), EXIT_FAILURE;
        int r = listen_sockets_new(&process.sockets);
        if (r < 0)
                return log_error_errno(r, "Failed to take over the activated sockets: %m"), EXIT_FAILURE;
        r = parse_arguments(&process, argc, argv, &check);
        if (r <= 0)
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        r = load_configuration(&process);
        if (r == -EINVAL)
                return EX_CONFIG; /* the units have RestartPreventExitStatus=CONFIG */
        if (r < 0 || check)
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        r = set_up(&process);
        if (r >= 0)
                r = start_role(&process);
        if (r >= 0)
                r = run(&process);
        if (r < 0)
                sd_notifyf(false, "ERRNO=%d", -r);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
