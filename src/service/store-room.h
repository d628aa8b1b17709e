/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Is there room in a role's store? Every write's outcome comes here; the first that finds the disk full is told
 * to the journal, and makes the role unhealthy. From then on a probe as large as a large message is written and
 * deleted every STORE_ROOM_PROBE_USEC, until that succeeds: so the role recovers by itself, whether or not
 * anybody asks it for something, and the small writes that succeed on a full disk now and then are no recovery
 * yet. */

#include "fiber/fiber.h"
#include "store/store.h"

#define STORE_ROOM_PROBE_USEC (1000 * 1000ULL)

typedef struct StoreRoom StoreRoom;

typedef struct StoreRoomConfig {
        const char *full, *recovered; /* what the journal is told */
        void (*changed)(void *userdata); /* store_room_is_full() has changed; optional */
        void *userdata;
} StoreRoomConfig;

/* The event loop, the fibers and the store outlive it; config is copied, its strings are constants. */
int store_room_new(
        StoreRoom **ret, sd_event *event, FiberPool *fibers, Store *store, const StoreRoomConfig *config);
/* No more probes. One under way ends with the store, so this comes before that is closed, */
void store_room_stop(StoreRoom *room);
/* and this after it. NULL is fine for both. */
StoreRoom *store_room_free(StoreRoom *room);
DEFINE_CLEANUP(StoreRoom *, store_room_free);

/* The outcome of a write. */
void store_room_note(StoreRoom *room, int r);
bool store_room_is_full(const StoreRoom *room);
