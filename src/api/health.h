/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Can the api role do its work? Asks its store and the group role, both at once, within HEALTH_TIMEOUT_USEC,
 * and whether both have room to store something.
 * Whoever asks while they are being asked shares the answer, so asking often costs little. */

#include "api/role-state.h"
#include "util/time-util.h"

#define HEALTH_TIMEOUT_USEC (2 * USEC_PER_SEC)

typedef struct Health Health;

typedef enum HealthOf {
        HEALTH_UNAVAILABLE,
        HEALTH_FULL, /* reading goes on */
        HEALTH_OK,
} HealthOf;

typedef struct HealthState {
        HealthOf store, group;
} HealthState;

/* The Api outlives it. */
int health_new(Health **ret, Api *api);
/* When no fiber is left. */
Health *health_free(Health *health);
DEFINE_CLEANUP(Health *, health_free);

/* May suspend: on a fiber. -EBUSY when there is no room for the fibers that ask. */
int health_check(Health *health, HealthState *ret);
