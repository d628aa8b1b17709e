/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the arbiter concludes from what systemd says: which units are healthy, whether this host is, and the
 * epoch of the group primary. Pure: arbiter_step() takes an event and the time and answers what to do; the
 * daemon, tests and simulators run the same code.
 *
 * A unit is healthy as long as none of these is true:
 *
 *   failed                    it is failed, and has been for ARBITER_FAILED_USEC: systemd passes through
 *                             that state before a restart
 *   flapping                  it was restarted ARBITER_FLAPPING_RESTARTS times in ARBITER_FLAPPING_USEC
 *   activating, deactivating  it has been for ARBITER_TRANSITION_USEC; a oneshot may take any time
 *   unhealthy by itself       its role's property Healthy is false
 *
 * During the times named here its health stays as it was, so a unit that systemd restarts in time stays
 * healthy. A unit that was stopped, or has not been needed yet, is healthy too.
 *
 * The host is healthy unless a unit of its roles is unhealthy, or its group role neither runs nor has a
 * socket that would start it. */

#include <stdbool.h>
#include <stdint.h>

#include "util/hash.h"
#include "util/time-util.h"

#define ARBITER_MAX_UNITS 128U
#define ARBITER_FAILED_USEC (1 * USEC_PER_SEC)
#define ARBITER_FLAPPING_RESTARTS 3U
#define ARBITER_FLAPPING_USEC (60 * USEC_PER_SEC)
#define ARBITER_TRANSITION_USEC (30 * USEC_PER_SEC)
#define ARBITER_GROUP_SERVICE "stonechat-group.service"
#define ARBITER_GROUP_SOCKET "stonechat-group.socket"

/* One reading of a unit's properties; zero-initialise it. Strings that are longer are cut. */
typedef struct UnitReading {
        char name[256];
        char active[16], sub[32], result[32];
        uint32_t n_restarts;
        char invocation[33]; /* hexadecimal, empty: never started */
        uint64_t since_usec; /* of the last change of state; CLOCK_REALTIME, for people */
        uint64_t started_usec; /* of the main process; CLOCK_REALTIME */
        char status[256]; /* STATUS= of sd_notify() */
        char bus_name[256]; /* BusName=, empty: none */
        bool oneshot;
} UnitReading;

/* The property Healthy of the role on the bus. */
typedef enum ReportedHealth {
        REPORTED_UNKNOWN,
        REPORTED_HEALTHY,
        REPORTED_UNHEALTHY,
} ReportedHealth;

typedef struct UnitHealth {
        UnitReading reading;
        ReportedHealth reported;
        bool healthy;
        char reason[320]; /* empty if healthy */
        uint64_t state_since; /* boottime: first seen in this state with this invocation id */
        uint64_t restarts[ARBITER_FLAPPING_RESTARTS]; /* boottime of the last ones, newest first; 0: none */
        UT_hash_handle hh; /* by reading.name */
} UnitHealth;

typedef struct ArbiterState {
        UnitHealth *units;
        bool healthy; /* this host */
        uint64_t epoch; /* of the group primary; grows with every start of it, 0: none was seen yet */
        char primary[33]; /* its invocation id */
} ArbiterState;

typedef enum ArbiterEventType {
        ARBITER_EVENT_READING,
        ARBITER_EVENT_GONE, /* systemd no longer knows the unit */
        ARBITER_EVENT_REPORTED_HEALTH,
        ARBITER_EVENT_TICK, /* time has passed */
} ArbiterEventType;

typedef struct ArbiterEvent {
        ArbiterEventType type;
        const UnitReading *reading;
        const char *name; /* of GONE and WORD */
        ReportedHealth reported;
} ArbiterEvent;

/* What to do now. Pointers are valid until the next step. */
typedef struct ArbiterActions {
        bool publish_units, publish_health, publish_routes;
        size_t n_changed;
        const UnitHealth *changed[ARBITER_MAX_UNITS]; /* whose health has changed, to be logged */
        uint64_t wake_at; /* boottime of the next tick that may change something; USEC_INFINITY: none */
} ArbiterActions;

/* `now` is boottime_usec(). -ENOBUFS above ARBITER_MAX_UNITS units, -ENOMEM; the state is as before then. */
int arbiter_step(ArbiterState *state, const ArbiterEvent *event, uint64_t now, ArbiterActions *ret);
void arbiter_state_done(ArbiterState *state);
