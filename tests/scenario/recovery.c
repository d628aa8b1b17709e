/* SPDX-License-Identifier: Apache-2.0 */

/* Many devices come back at the same moment, each of another user, each with messages missed in one
 * conversation. Measured from the moment the first connects until the last has everything. */

#include <stdio.h>

#include "scenario/device.h"
#include "scenario/roles.h"
#include "scenario/scenarios.h"
#include "util/time-util.h"

#define WINDOW 32U

typedef struct Return {
        Device *devices;
        unsigned n;
        uint64_t wanted, begun_at;
        Histogram connected, complete;
        unsigned n_complete;
        bool *is_complete;
} Return;

static bool all_complete(void *userdata) {
        Return *back = userdata;
        uint64_t now = boottime_usec();

        for (unsigned i = 0; i < back->n; i++) {
                const Device *device = &back->devices[i];
                if (back->is_complete[i] || !device->ready || device->offset < back->wanted)
                        continue;
                back->is_complete[i] = true;
                back->n_complete++;
                histogram_add(&back->connected, device->ready_at - back->begun_at);
                histogram_add(&back->complete, now - back->begun_at);
        }
        return back->n_complete == back->n;
}

/* One device for each conversation says that many things while both members are away. */
static void say_what_is_missed(Device *speakers, unsigned n, unsigned n_messages) {
        DeviceRange range = {speakers, n};

        devices_connect(speakers, n, 64, 60);
        for (unsigned i = 0; i < n; i++)
                for (unsigned k = 0; k < n_messages; k++)
                        device_say(&speakers[i], boottime_usec());
        if (!loop_until(180, devices_all_sent, &range))
                fail("the messages to be missed could not be sent");
        for (unsigned i = 0; i < n; i++)
                device_leave(&speakers[i]);
}

bool scenario_recovery(void) {
        static Crowd speaking, returning;
        unsigned n = choose(options.clients, 2000, 200) & ~1U,
                 n_messages = choose(options.messages, 500, 200);
        Device *devices = new0(Device, n), *speakers = new0(Device, n / 2);
        Conversation *conversations = new0(Conversation, n / 2);
        Return back = {.devices = devices, .n = n, .wanted = n_messages, .is_complete = new0(bool, n)};

        printf("%u devices come back at once, each with %u messages missed\n", n, n_messages);
        if (!devices || !speakers || !conversations || !back.is_complete)
                fail("out of memory");
        (void) people_make(n);
        conversations_open(conversations, 0, n / 2);
        devices_pair(devices, conversations, 0, n / 2, &returning);
        devices_connect(devices, n, 64, 60);
        for (unsigned i = 0; i < n; i++)
                device_leave(&devices[i]);
        for (unsigned i = 0; i < n / 2; i++)
                speakers[i] = (Device){.crowd = &speaking,
                        .conversation = &conversations[i],
                        .person = devices[2 * i].person,
                        .other = devices[2 * i].other,
                        .window = WINDOW,
                        .padding = 64};
        devices_add(speakers, n / 2);
        say_what_is_missed(speakers, n / 2, n_messages);
        set_up_is_done();

        roles_begin();
        back.begun_at = boottime_usec();
        for (unsigned i = 0; i < n; i++)
                device_connect(&devices[i]);
        bool good = loop_until(120, all_complete, &back);
        double seconds = (double) (boottime_usec() - back.begun_at) / 1e6;
        roles_end_of_during();
        /* Whoever is told too much, or disconnected after all, shows it now. */
        loop_for(2);

        printf("  %u of %u devices had everything after %.2f s\n", back.n_complete, n, seconds);
        latency_print_head();
        latency_print("first connection to signed in", &back.connected);
        latency_print("first connection to complete", &back.complete);
        good &= crowd_print_faults(
                "those who come back", &returning, (uint64_t) n * n_messages - returning.n_received);
        roles_print();
        return roles_are_the_same() && good;
}
