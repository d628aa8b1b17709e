/* SPDX-License-Identifier: Apache-2.0 */

/* The target is restarted again and again: no unit fails, and REST and socket answer after each. */

#include <stdio.h>

#include "scenario/device.h"
#include "scenario/roles.h"
#include "scenario/scenarios.h"
#include "util/string-util.h"
#include "util/time-util.h"

static bool is_ready(void *userdata) {
        return ((const Device *) userdata)->ready;
}

/* What is failed is shown, and forgotten with the count of starts, of which systemd allows twenty in ten seconds. */
static bool nothing_failed(void) {
        static const char *const look[] = {"bash", "-c",
                "failed=$(systemctl --failed --no-legend --plain); systemctl reset-failed; [[ -z $failed ]] "
                "|| { echo \"$failed\"; false; }",
                NULL};

        return host_run(look) == 0;
}

bool scenario_target(void) {
        static const char *const restart[] = {"systemctl", "restart", "stonechat.target", NULL};
        static const char *const start[] = {"systemctl", "start", "stonechat.target", NULL};
        static Histogram restarting, rest, answering;
        static Crowd crowd;
        static Device devices[2];
        unsigned n = choose(options.rounds, 500, 10), n_refused = 0, n_failed = 0, n_silent = 0;
        Conversation conversation;

        printf("%u restarts of stonechat.target\n", n);
        (void) people_make(2);
        conversation_open(&conversation, &people[0], &people[1]);
        devices_pair(devices, &conversation, 0, 1, &crowd);
        set_up_is_done();
        roles_begin();
        for (unsigned i = 0; i < n; i++) {
                uint64_t begin = boottime_usec();
                if (host_run(restart) != 0)
                        n_refused++;
                uint64_t restarted = boottime_usec();
                histogram_add(&restarting, restarted - begin);
                if (rest_call_from(&options.api, people[0].address, "GET", "/v1/users/me", people[0].token,
                            NULL, NULL) != 200)
                        n_silent++;
                histogram_add(&rest, boottime_usec() - restarted);
                device_connect(&devices[0]);
                if (!loop_until(10, is_ready, &devices[0]))
                        n_silent++;
                histogram_add(&answering, boottime_usec() - restarted);
                device_leave(&devices[0]);
                if (!nothing_failed()) {
                        printf("  after restart %u (see above)\n", i + 1);
                        n_failed++;
                        if (host_run(start) != 0)
                                fail("the target does not start any more");
                }
        }
        roles_end_of_during();
        latency_print_head();
        latency_print("systemctl restart", &restarting);
        latency_print("then: first REST answer", &rest);
        latency_print("then: first signed-in reply of a socket", &answering);
        printf("  %u restarts: %u not done, %u with failed units, %u without an answer\n", n, n_refused,
                n_failed, n_silent);
        roles_print();
        return n_refused + n_failed + n_silent == 0;
}
