/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How long a thread has been busy with one thing, for who watches it. */

#include <stdatomic.h>
#include <stdbool.h>

#include "util/time-util.h"

typedef struct BusyClock {
        _Atomic uint64_t since_usec; /* 0: idle */
} BusyClock;

static inline void busy_begin(BusyClock *clock) {
        atomic_store(&clock->since_usec, boottime_usec());
}
static inline void busy_end(BusyClock *clock) {
        atomic_store(&clock->since_usec, 0);
}
static inline bool busy_is_alive(BusyClock *clock, uint64_t max_busy_usec) {
        uint64_t since = atomic_load(&clock->since_usec), now = boottime_usec();
        return since == 0 || now <= since || now - since <= max_busy_usec;
}
