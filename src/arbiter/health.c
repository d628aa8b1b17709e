/* SPDX-License-Identifier: Apache-2.0 */
#include "arbiter/health.h"

#include <stdio.h>

#include "util/string-util.h"

static bool is_service(const UnitReading *reading) {
        const char *dot = strrchr(reading->name, '.');
        return dot && streq(dot, ".service");
}

static UnitHealth *find_unit(const ArbiterState *state, const char *name) {
        UnitHealth *unit;

        HASH_FIND_STR(state->units, name, unit);
        return unit;
}

static UnitHealth *add_unit(ArbiterState *state, const UnitReading *reading) {
        UnitHealth *unit = new0(UnitHealth, 1);
        if (!unit)
                return NULL;
        unit->reading = *reading;
        unit->healthy = true;
        HASH_ADD_STR(state->units, reading.name, unit);
        return HASH_WAS_ADDED(unit) ? unit : mfree(unit);
}

static void remove_unit(ArbiterState *state, UnitHealth *unit) {
        HASH_DEL(state->units, unit);
        free(unit);
}

void arbiter_state_done(ArbiterState *state) {
        UnitHealth *unit, *next;

        HASH_ITER(hh, state->units, unit, next)
                remove_unit(state, unit);
}

/* Notes the restarts that systemd has counted since the last reading. A count that became smaller was reset
 * by `systemctl reset-failed`. */
static void note_restarts(UnitHealth *unit, uint32_t n_restarts, uint64_t now) {
        if (n_restarts < unit->reading.n_restarts) {
                memset(unit->restarts, 0, sizeof(unit->restarts));
                return;
        }
        uint32_t n_new = MIN(n_restarts - unit->reading.n_restarts, ARBITER_FLAPPING_RESTARTS);
        memmove(unit->restarts + n_new, unit->restarts,
                (ARBITER_FLAPPING_RESTARTS - n_new) * sizeof(unit->restarts[0]));
        for (uint32_t i = 0; i < n_new; i++)
                unit->restarts[i] = now;
}

static bool is_flapping(const UnitHealth *unit, uint64_t now) {
        uint64_t oldest = unit->restarts[ARBITER_FLAPPING_RESTARTS - 1];
        return oldest > 0 && now - oldest < ARBITER_FLAPPING_USEC;
}

static bool in_transition(const UnitReading *reading) {
        return streq(reading->active, "activating") || streq(reading->active, "deactivating");
}

/* Is the unit healthy? If not, says why. */
static bool check_unit(const UnitHealth *unit, uint64_t now, char *reason, size_t size) {
        const UnitReading *reading = &unit->reading;
        uint64_t stands = now - unit->state_since;

        reason[0] = 0;
        if (is_flapping(unit, now)) {
                snprintf(reason, size, "restarted %u times within %llu s", ARBITER_FLAPPING_RESTARTS,
                        ARBITER_FLAPPING_USEC / USEC_PER_SEC);
                return false;
        }
        if (streq(reading->active, "failed") && stands >= ARBITER_FAILED_USEC) {
                snprintf(reason, size, "failed, result '%s'", reading->result);
                return false;
        }
        if (in_transition(reading) && !reading->oneshot && stands >= ARBITER_TRANSITION_USEC) {
                snprintf(reason, size, "%s (%s) for too long", reading->active, reading->sub);
                return false;
        }
        if (in_transition(reading) || streq(reading->active, "failed")) { /* too early: as before */
                snprintf(reason, size, "%s", unit->reason);
                return unit->healthy;
        }
        if (unit->reported == REPORTED_UNHEALTHY && streq(reading->active, "active")) {
                snprintf(reason, size, "says that it cannot do its work: %s", reading->status);
                return false;
        }
        return true;
}

/* When the unit's health may change by time alone. */
static uint64_t next_change(const UnitHealth *unit, uint64_t now) {
        uint64_t next = USEC_INFINITY;

        if (is_flapping(unit, now))
                next = unit->restarts[ARBITER_FLAPPING_RESTARTS - 1] + ARBITER_FLAPPING_USEC;
        if (streq(unit->reading.active, "failed") && now - unit->state_since < ARBITER_FAILED_USEC)
                next = MIN(next, unit->state_since + ARBITER_FAILED_USEC);
        if (in_transition(&unit->reading) && !unit->reading.oneshot &&
                now - unit->state_since < ARBITER_TRANSITION_USEC)
                next = MIN(next, unit->state_since + ARBITER_TRANSITION_USEC);
        return next;
}

static void update_unit(UnitHealth *unit, uint64_t now, ArbiterActions *actions) {
        char reason[sizeof(unit->reason)];
        bool healthy = check_unit(unit, now, reason, sizeof(reason));

        if (healthy != unit->healthy)
                actions->changed[actions->n_changed++] = unit;
        if (healthy != unit->healthy || !streq(reason, unit->reason))
                actions->publish_units = true;
        unit->healthy = healthy;
        strcpy(unit->reason, reason);
}

static bool is_active(const ArbiterState *state, const char *name) {
        const UnitHealth *unit = find_unit(state, name);
        return unit && (streq(unit->reading.active, "active") || streq(unit->reading.active, "reloading"));
}

/* Does the group role answer, or start when it is asked? While systemd restarts it, its socket is active. */
static bool group_is_available(const ArbiterState *state) {
        const UnitHealth *service = find_unit(state, ARBITER_GROUP_SERVICE);

        return service && service->healthy &&
               (is_active(state, ARBITER_GROUP_SERVICE) || is_active(state, ARBITER_GROUP_SOCKET));
}

static bool host_is_healthy(const ArbiterState *state) {
        UnitHealth *unit, *next;

        HASH_ITER(hh, state->units, unit, next)
                if (!unit->healthy && !unit->reading.oneshot) /* the roles work without it */
                        return false;
        return group_is_available(state);
}

/* Every start of the group role makes a new primary, with a greater epoch. The epoch is the start time, as
 * an arbiter that is restarted then finds the same one; it grows even if the clock was set back. */
static bool update_epoch(ArbiterState *state) {
        const UnitHealth *unit = find_unit(state, ARBITER_GROUP_SERVICE);

        if (!unit || isempty(unit->reading.invocation) || unit->reading.started_usec == 0 ||
                streq(unit->reading.invocation, state->primary))
                return false;
        strcpy(state->primary, unit->reading.invocation);
        state->epoch = MAX(state->epoch + 1, unit->reading.started_usec);
        return true;
}

static bool readings_differ(const UnitReading *a, const UnitReading *b) {
        return !streq(a->active, b->active) || !streq(a->sub, b->sub) || !streq(a->result, b->result) ||
               a->n_restarts != b->n_restarts || !streq(a->invocation, b->invocation) ||
               a->since_usec != b->since_usec || !streq(a->status, b->status);
}

static int take_reading(
        ArbiterState *state, const UnitReading *reading, uint64_t now, ArbiterActions *actions) {
        UnitHealth *unit = find_unit(state, reading->name);

        if (!unit) {
                if (HASH_COUNT(state->units) >= ARBITER_MAX_UNITS)
                        return -ENOBUFS;
                unit = add_unit(state, reading);
                if (!unit)
                        return -ENOMEM;
                unit->state_since = now;
                actions->publish_units = true;
                return 0;
        }
        if (readings_differ(&unit->reading, reading))
                actions->publish_units = true;
        /* systemd may leave out states: the same one with another invocation id began anew. */
        if (!streq(unit->reading.active, reading->active) ||
                !streq(unit->reading.invocation, reading->invocation) ||
                unit->reading.n_restarts != reading->n_restarts)
                unit->state_since = now;
        if (!streq(unit->reading.invocation, reading->invocation))
                unit->reported = REPORTED_UNKNOWN;
        if (is_service(reading))
                note_restarts(unit, reading->n_restarts, now);
        unit->reading = *reading;
        return 0;
}

static void take_reported_health(ArbiterState *state, const char *name, ReportedHealth reported) {
        UnitHealth *unit = find_unit(state, name);
        if (unit)
                unit->reported = reported;
}

static void take_gone(ArbiterState *state, const char *name, ArbiterActions *actions) {
        UnitHealth *unit = find_unit(state, name);
        if (!unit)
                return;
        remove_unit(state, unit);
        actions->publish_units = true;
}

int arbiter_step(ArbiterState *state, const ArbiterEvent *event, uint64_t now, ArbiterActions *ret) {
        ArbiterActions actions = {.wake_at = USEC_INFINITY};
        UnitHealth *unit, *next;

        switch (event->type) {
        case ARBITER_EVENT_READING: {
                int r = take_reading(state, event->reading, now, &actions);
                if (r < 0)
                        return r;
                break;
        }
        case ARBITER_EVENT_GONE:
                take_gone(state, event->name, &actions);
                break;
        case ARBITER_EVENT_REPORTED_HEALTH:
                take_reported_health(state, event->name, event->reported);
                break;
        case ARBITER_EVENT_TICK:
                break;
        }

        HASH_ITER(hh, state->units, unit, next) {
                update_unit(unit, now, &actions);
                actions.wake_at = MIN(actions.wake_at, next_change(unit, now));
        }
        bool healthy = host_is_healthy(state);
        actions.publish_health = healthy != state->healthy;
        state->healthy = healthy;
        actions.publish_routes = update_epoch(state);
        *ret = actions;
        return 0;
}
