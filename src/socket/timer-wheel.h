/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Deadlines of very many objects, with a resolution of one second: one ring of lists and one timer for all
 * of them (a hashed timing wheel, Varghese and Lauck 1987). An entry has one deadline, the nearest of all
 * that its owner waits for; when it has passed, `due` is called once and the owner sets the next. While the
 * wheel is empty its timer is off. */

#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "util/macro.h"

#define TIMER_WHEEL_SLOTS 64U /* seconds; entries with later deadlines are seen, and skipped, once a turn */

typedef struct TimerWheelEntry TimerWheelEntry;
struct TimerWheelEntry {
        LIST_ENTRY(TimerWheelEntry) link;
        uint32_t deadline; /* 0: not in the wheel */
};

typedef struct TimerWheel {
        LIST_HEAD(, TimerWheelEntry) slots[TIMER_WHEEL_SLOTS];
        sd_event_source *timer;
        uint32_t now; /* the second that was handled last */
        unsigned n_entries;
        void (*due)(TimerWheelEntry *entry, uint32_t now);
} TimerWheel;

int timer_wheel_init(TimerWheel *wheel, sd_event *event, void (*due)(TimerWheelEntry *entry, uint32_t now));
void timer_wheel_done(TimerWheel *wheel);

/* The time of the wheel: seconds of CLOCK_BOOTTIME. */
uint32_t timer_wheel_clock(void);

/* Sets or moves the deadline; one that has passed is due with the next tick. */
void timer_wheel_set(TimerWheel *wheel, TimerWheelEntry *entry, uint32_t deadline);
void timer_wheel_remove(TimerWheel *wheel, TimerWheelEntry *entry);

/* Handles everything that is due by `now`. The timer calls this; so do tests. */
void timer_wheel_advance(TimerWheel *wheel, uint32_t now);
