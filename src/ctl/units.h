/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What systemd, the arbiter and the roles themselves say about the local units, gathered over D-Bus with
 * synchronous calls. Asking starts nothing. */

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "util/macro.h"

typedef struct UnitStatistic {
        char *name;
        uint64_t value;
} UnitStatistic;

/* Strings are NULL if unknown. */
typedef struct UnitInfo {
        char *name;
        char *load, *active, *sub, *result;
        char *status, *bus_name, *type;
        char *listen; /* of a socket: its addresses */
        uint32_t restarts, main_pid;
        uint64_t active_usec; /* when it became active, CLOCK_REALTIME; a reload does not count */
        uint64_t since_usec; /* the same if it is active, else when its state changed last */
        uint64_t memory; /* resident, of the main process; 0: unknown */
        /* of the role */
        bool answers; /* its bus object */
        char *version;
        int healthy; /* as the arbiter says, without one as the role says; negative: unknown */
        char *reason; /* the arbiter's */
        UnitStatistic *statistics;
        size_t n_statistics;
} UnitInfo;

typedef struct UnitList {
        UnitInfo *units; /* sorted by name */
        size_t n_units;
} UnitList;

int unit_list_load(sd_bus *bus, UnitList *ret);
void unit_list_done(UnitList *list);
#define _cleanup_unit_list_ _cleanup_(unit_list_done)

bool unit_is_service(const UnitInfo *unit);
/* Not a role: a task or something that runs once. */
bool unit_is_oneshot(const UnitInfo *unit);
bool unit_is_running(const UnitInfo *unit);
