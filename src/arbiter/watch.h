/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Watches the local stonechat-* services and sockets over D-Bus. Signals are hints, coalesced by systemd and
 * possibly lost: each leads to a new reading of all the properties that matter, and every
 * WATCH_INTERVAL_USEC everything is read again. Nothing here judges; readings go to arbiter/health.h. */

#include <systemd/sd-bus.h>

#include "arbiter/health.h"

#define WATCH_INTERVAL_USEC (5 * USEC_PER_SEC)

typedef struct UnitWatch UnitWatch;

/* Hears of readings, units that went away, and what roles say of themselves. */
typedef void (*UnitWatchReport)(const ArbiterEvent *event, void *userdata);

int unit_watch_new(UnitWatch **ret, sd_bus *bus, UnitWatchReport report, void *userdata);
UnitWatch *unit_watch_free(UnitWatch *watch);
DEFINE_CLEANUP(UnitWatch *, unit_watch_free);
