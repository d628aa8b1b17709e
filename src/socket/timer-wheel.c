/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/timer-wheel.h"

#include "util/time-util.h"

uint32_t timer_wheel_clock(void) {
        return (uint32_t) (boottime_usec() / USEC_PER_SEC);
}

/* Ticks in the middle of each second: what is due in one second is handled in the next, never too early. */
static int arm(TimerWheel *wheel) {
        uint64_t next = ((uint64_t) wheel->now + 1) * USEC_PER_SEC + USEC_PER_SEC / 2;

        int r = sd_event_source_set_time(wheel->timer, next);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(wheel->timer, SD_EVENT_ONESHOT);
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        TimerWheel *wheel = userdata;

        timer_wheel_advance(wheel, timer_wheel_clock());
        return wheel->n_entries > 0 ? arm(wheel) : 0;
}

int timer_wheel_init(TimerWheel *wheel, sd_event *event, void (*due)(TimerWheelEntry *entry, uint32_t now)) {
        *wheel = (TimerWheel){.due = due, .now = timer_wheel_clock()};
        for (unsigned i = 0; i < TIMER_WHEEL_SLOTS; i++)
                LIST_INIT(&wheel->slots[i]);
        int r = sd_event_add_time(
                event, &wheel->timer, CLOCK_BOOTTIME, UINT64_MAX, USEC_PER_SEC / 10, on_tick, wheel);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(wheel->timer, SD_EVENT_OFF);
}

void timer_wheel_done(TimerWheel *wheel) {
        wheel->timer = sd_event_source_disable_unref(wheel->timer);
}

void timer_wheel_remove(TimerWheel *wheel, TimerWheelEntry *entry) {
        if (entry->deadline == 0)
                return;
        LIST_REMOVE(entry, link);
        entry->deadline = 0;
        wheel->n_entries--;
}

void timer_wheel_set(TimerWheel *wheel, TimerWheelEntry *entry, uint32_t deadline) {
        timer_wheel_remove(wheel, entry);
        if (wheel->n_entries == 0) {
                wheel->now = MAX(wheel->now, timer_wheel_clock());
                (void) arm(wheel);
        }
        if (deadline <= wheel->now)
                deadline = wheel->now + 1;
        entry->deadline = deadline;
        LIST_INSERT_HEAD(&wheel->slots[deadline % TIMER_WHEEL_SLOTS], entry, link);
        wheel->n_entries++;
}

static void advance_slot(TimerWheel *wheel, unsigned slot, uint32_t now) {
        LIST_HEAD(, TimerWheelEntry) later = LIST_HEAD_INITIALIZER(later);
        TimerWheelEntry *entry;

        /* due() may remove this and other entries and add new ones, so this takes the first entry until only
         * later ones are left. */
        while ((entry = LIST_FIRST(&wheel->slots[slot]))) {
                if (entry->deadline > now) {
                        LIST_REMOVE(entry, link);
                        LIST_INSERT_HEAD(&later, entry, link);
                        continue;
                }
                timer_wheel_remove(wheel, entry);
                wheel->due(entry, now);
        }
        while ((entry = LIST_FIRST(&later))) {
                LIST_REMOVE(entry, link);
                LIST_INSERT_HEAD(&wheel->slots[slot], entry, link);
        }
}

void timer_wheel_advance(TimerWheel *wheel, uint32_t now) {
        /* After a suspend of the machine one turn over all slots finds everything. */
        uint32_t from = now - wheel->now > TIMER_WHEEL_SLOTS ? now - TIMER_WHEEL_SLOTS : wheel->now;

        if (now <= wheel->now)
                return;
        wheel->now = now;
        for (uint32_t second = from + 1; second <= now; second++)
                advance_slot(wheel, second % TIMER_WHEEL_SLOTS, now);
}
