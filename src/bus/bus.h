/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* D-Bus, for control only (never per message): the object every role exports, LogControl1, and helpers.
 *
 * Names: org.stonechat.Api, .Group, .Arbiter, .Socket.I1 (instance 1); object /org/stonechat/Role, interface
 * org.stonechat.Role1; /org/freedesktop/LogControl1 beside it, so that `systemctl service-log-level` works.
 *
 * A role works without a bus (tests, a container): bus_open() then answers NULL and all else does nothing.
 */

#include <stdbool.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "util/macro.h"

#define BUS_ROLE_PATH "/org/stonechat/Role"
#define BUS_ROLE_INTERFACE "org.stonechat.Role1"

/* One figure of a role, for `stonechatctl status` and Statistics (a{st}). */
typedef struct BusStatistic {
        const char *name; /* "connections" */
        uint64_t value;
} BusStatistic;

/* What the object asks of the role; it only packs the answers. */
typedef struct BusRoleHandlers {
        const char *role; /* "api" */
        bool (*healthy)(void *userdata); /* property Healthy, signalled by bus_role_changed() */
        const char *(*status)(void *userdata); /* property StatusText: one line */
        size_t (*statistics)(
                BusStatistic *ret, size_t max, void *userdata); /* property Statistics, read on demand */
        void (*reload)(
                sd_bus_message *call, void *userdata); /* method Reload(): answered by bus_reload_done() */
        /* One of those that ReloadCredentials(a{sh}) brings, before reload(); the descriptor is the message's.
         * A negative errno refuses the call. Optional. */
        int (*credential)(const char *name, int fd, void *userdata);
} BusRoleHandlers;

/* The system bus attached to the loop; 0 and NULL when there is none to be had. Signals that somebody directs
 * to this connection are dropped, unless the bus itself does: any local user may send those, with any content,
 * and sd-bus cannot tell whether their sender owns the name that a match asks for. All others the bus has
 * compared with the matches; so a match has to name the sender. */
int bus_open(sd_event *event, sd_bus **ret);

/* Exports the objects and requests the name. `userdata` goes to the handlers. */
int bus_export_role(sd_bus *bus, const char *name, const BusRoleHandlers *handlers, void *userdata,
        sd_bus_slot **ret_slot);
/* Answers the Reload() call with the number of problems and their text (may be empty); takes the message. */
void bus_reload_done(sd_bus_message *call, unsigned n_problems, const char *problems);
/* Emits PropertiesChanged for Healthy and StatusText. */
void bus_role_changed(sd_bus *bus);

/* Reads the answer of Properties.GetAll, a{sv}: the reader gets each value as a variant and reads or skips
 * it. Stops at the first negative result and answers it. */
typedef int (*BusPropertyReader)(sd_bus_message *value, const char *name, void *userdata);
int bus_read_properties(sd_bus_message *reply, BusPropertyReader reader, void *userdata);
