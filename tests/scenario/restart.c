/* SPDX-License-Identifier: Apache-2.0 */

/* The group role is restarted, and then killed, under many connected clients that talk: a few hundred messages a
 * second altogether, half of them by a few busy pairs, so that in these something is said at every moment, half by
 * all in turn. Each phase goes on until all have spoken: whoever is not served again is found. */

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "scenario/device.h"
#include "scenario/roles.h"
#include "scenario/scenarios.h"
#include "util/time-util.h"

/* Who waited longer than this waited for the role. */
#define SLOW_USEC (250 * USEC_PER_MSEC)
#define N_BUSY 100U
#define GROUP "stonechat-group.service"

static void *restart_group(void *userdata) {
        static const char *const command[] = {"systemctl", "restart", GROUP, NULL};

        if (host_run(command) != 0)
                fail("group could not be restarted");
        return NULL;
}

static void *kill_group(void *userdata) {
        if (kill(role_pid(GROUP), SIGKILL) < 0)
                fail("group could not be killed: %m");
        return NULL;
}

typedef struct Phase {
        const char *name;
        void *(*event)(void *userdata);
        Crowd crowd;
        uint64_t begun_at;
} Phase;

static void run_phase(Phase *phase, Talk *talk, Talk *busy, Crowd *total) {
        double round = (double) talk->n / talk->rate;
        pthread_t thread;

        phase->crowd.slow_usec = SLOW_USEC;
        devices_join(talk->devices, talk->n, &phase->crowd);
        talk_begin(talk);
        talk_begin(busy);
        if (phase->event) {
                loop_for(1);
                phase->begun_at = boottime_usec();
                if (pthread_create(&thread, NULL, phase->event, NULL) != 0)
                        fail("no thread");
        }
        loop_for(round);
        talk_end(talk);
        talk_end(busy);
        if (phase->event)
                pthread_join(thread, NULL);
        (void) devices_settle(talk->devices, talk->n, 30);
        crowd_merge(total, &phase->crowd);
}

bool scenario_restart(void) {
        static Phase phases[] = {{.name = "before"}, {.name = "restart", .event = restart_group},
                {.name = "kill -9", .event = kill_group}, {.name = "after"}};
        static Crowd total;
        unsigned n = choose(options.clients, 10000, 1000) & ~1U, rate = choose(options.rate, 800, 500);
        Device *devices = new0(Device, n);
        Conversation *conversations = new0(Conversation, n / 2);
        Talk talk = {.devices = devices, .n = n, .rate = rate / 2};
        Talk busy = {.devices = devices, .n = MIN(n, N_BUSY), .rate = rate / 2};
        bool good = true;

        printf("%u connected clients, %u messages a second altogether; group is restarted, then killed\n", n,
                rate);
        if (!devices || !conversations)
                fail("out of memory");
        if (!options.slice || options.init == 0)
                fail("--slice and --init are needed for this");
        (void) people_make(n);
        conversations_open(conversations, 0, n / 2);
        devices_pair(devices, conversations, 0, n / 2, &total);
        set_up_is_done();
        loop_on_tick(talk_tick, &talk);
        loop_on_tick(talk_tick, &busy);
        devices_connect(devices, n, 64, 120);

        roles_begin();
        for (size_t i = 0; i < ELEMENTSOF(phases); i++)
                run_phase(&phases[i], &talk, &busy, &total);
        roles_end_of_during();

        latency_print_head();
        for (size_t i = 0; i < ELEMENTSOF(phases); i++)
                crowd_print_latency(phases[i].name, &phases[i].crowd);
        for (size_t i = 0; i < ELEMENTSOF(phases); i++)
                if (phases[i].event)
                        printf("  %s: the last who had waited longer than 250 ms was served after %.2f s\n",
                                phases[i].name,
                                phases[i].crowd.last_slow_at > phases[i].begun_at
                                        ? (double) (phases[i].crowd.last_slow_at - phases[i].begun_at) / 1e6
                                        : 0.0);
        good &= crowd_print_faults("clients", &total, devices_lost(devices, n));
        roles_print();
        return good;
}
