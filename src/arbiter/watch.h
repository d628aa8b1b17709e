/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Watches the local stonechat-* services and sockets over D-Bus. systemd coalesces signals, and they may be
 * lost, so each only leads to a new reading of all properties, and every WATCH_INTERVAL_USEC everything is
 * read again. What the readings mean is decided in arbiter/health.h. */

#include <systemd/sd-bus.h>

#include "arbiter/health.h"

#define WATCH_INTERVAL_USEC (5 * USEC_PER_SEC)

typedef struct UnitWatch UnitWatch;

/* Gets readings, units that went away, and the health that roles report. */
typedef void (*UnitWatchReport)(const ArbiterEvent *event, void *userdata);

int unit_watch_new(UnitWatch **ret, sd_bus *bus, UnitWatchReport report, void *userdata);
UnitWatch *unit_watch_free(UnitWatch *watch);
DEFINE_CLEANUP(UnitWatch *, unit_watch_free);
