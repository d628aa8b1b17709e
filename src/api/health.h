/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Can the api role do its work? Asks its store and the group role, both at once, within HEALTH_TIMEOUT_USEC.
 * Whoever asks while a probe is under way shares it, so asking often costs little. */

#include "service/dispatcher.h"
#include "store/store.h"
#include "util/time-util.h"

#define HEALTH_TIMEOUT_USEC (2 * USEC_PER_SEC)

typedef struct Health Health;

typedef struct HealthState {
        bool store, group;
} HealthState;

typedef void (*HealthDone)(const HealthState *state, void *userdata);

int health_new(Health **ret, sd_event *event, Store *store, Dispatcher *dispatcher);
/* Answers those who wait with what is known. */
Health *health_free(Health *health);
DEFINE_CLEANUP(Health *, health_free);

/* -ENOBUFS when too many wait. done is never called from within. */
int health_check(Health *health, HealthDone done, void *userdata);
