/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Deadlines of very many objects, to the second: one ring of lists and one timer for all, instead of a timer
 * each.
 *
 * An entry has one deadline, the nearest of all that its owner waits for; when it has passed, `due` is
 * called once and the owner sets the next. Time stands still (no timer) while the wheel is empty. */

#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "util/macro.h"

#define WHEEL_SLOTS 64U /* seconds; later deadlines are looked at once a turn */

typedef struct WheelEntry WheelEntry;
struct WheelEntry {
        LIST_ENTRY(WheelEntry) link;
        uint32_t deadline; /* 0: not in the wheel */
};

typedef struct Wheel {
        LIST_HEAD(, WheelEntry) slots[WHEEL_SLOTS];
        sd_event_source *timer;
        uint32_t now; /* the second that was handled last */
        unsigned n_entries;
        void (*due)(WheelEntry *entry, uint32_t now);
} Wheel;

int wheel_init(Wheel *wheel, sd_event *event, void (*due)(WheelEntry *entry, uint32_t now));
void wheel_done(Wheel *wheel);

/* Seconds of CLOCK_BOOTTIME: the wheel's time. */
uint32_t wheel_clock(void);

/* Sets or moves the deadline; one that has passed is due with the next tick. */
void wheel_set(Wheel *wheel, WheelEntry *entry, uint32_t deadline);
void wheel_remove(Wheel *wheel, WheelEntry *entry);

/* Handles everything that is due by `now`; what the timer does. */
void wheel_advance(Wheel *wheel, uint32_t now);
