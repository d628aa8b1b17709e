/* SPDX-License-Identifier: Apache-2.0 */

/* Senders keep eight messages under way, each in a conversation that is in no memory at first and after each kill,
 * while roles are killed in rounds: group, and now and then socket or api. They are fast, so the limits on users
 * stay lifted. Then everything is read back: each text there once, in the order in which it was sent, at the seq
 * that was acknowledged. */

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "scenario/device.h"
#include "scenario/roles.h"
#include "scenario/scenarios.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define WINDOW 8U
#define PAGE 500U

typedef struct Senders {
        Device *devices;
        unsigned n;
        bool sending;
} Senders;

static void keep_under_way(void *userdata) {
        Senders *senders = userdata;
        uint64_t now = boottime_usec();

        if (!senders->sending)
                return;
        for (unsigned i = 0; i < senders->n; i++)
                while (senders->devices[i].ready && senders->devices[i].n_outgoing < WINDOW)
                        device_say(&senders->devices[i], now);
}

static void kill_role(const char *unit) {
        pid_t pid = role_pid(unit);

        if (pid > 0)
                (void) kill(pid, SIGKILL);
}

/* --- reading back --- */

typedef struct Stored {
        uint64_t n_lost, n_doubles, n_disordered, n_elsewhere, n_gaps;
} Stored;

/* The next message of a conversation: which number of which sender. */
static void check_stored(
        Device *devices, uint64_t next[static 2], uint64_t seq, const char *text, Stored *stored) {
        uint64_t when, number;
        unsigned sender;

        if (sscanf(text, "%" SCNu64 " %u %" SCNu64, &when, &sender, &number) != 3)
                fail("a text that nobody sent: %.50s", text);
        unsigned side = sender == devices[0].person->number ? 0 : 1;
        if (number < next[side])
                stored->n_doubles++; /* or late: disordered at its place, where it was missing */
        else if (number > next[side])
                stored->n_disordered++;
        next[side] = MAX(next[side], number + 1);
        if (number < devices[side].n_seqs && devices[side].seqs[number] != 0 &&
                devices[side].seqs[number] != seq)
                stored->n_elsewhere++;
}

static void read_back(Device *devices, Stored *stored) {
        uint64_t next[2] = {}, last = 0;
        bool more = true;

        while (more) {
                _cleanup_free_ char *path =
                        format_string("/v1/conversations/%s/messages?limit=%u&oldest=true&after=%" PRIu64,
                                devices[0].conversation->id, PAGE, last);
                json_t *page = rest_expect(devices[0].person, "GET", path, NULL, 200), *message;
                json_t *messages = json_object_get(page, "messages");
                size_t i;
                json_array_foreach(messages, i, message) {
                        uint64_t seq = (uint64_t) json_integer_value(json_object_get(message, "seq"));
                        if (seq != last + 1)
                                stored->n_gaps++;
                        last = seq;
                        check_stored(devices, next, seq,
                                json_string_value(json_object_get(message, "text")) ?: "", stored);
                }
                more = json_array_size(messages) > 0;
                json_decref(page);
        }
        for (unsigned side = 0; side < 2; side++)
                stored->n_lost += devices[side].number > next[side] ? devices[side].number - next[side] : 0;
}

bool scenario_crash(void) {
        static const char *const restart_group[] = {"systemctl", "restart", "stonechat-group.service", NULL};
        static Crowd crowd;
        unsigned n = choose(options.clients, 64, 64) & ~1U, n_rounds = choose(options.rounds, 30, 8),
                 n_socket_kills = 0;
        Device *devices = new0(Device, n);
        Conversation *conversations = new0(Conversation, n / 2);
        Senders senders = {.devices = devices, .n = n};
        Stored stored = {};

        printf("%u senders with %u messages under way each, %u kills\n", n, WINDOW, n_rounds);
        if (!devices || !conversations)
                fail("out of memory");
        if (!options.slice)
                fail("--slice is needed for this");
        (void) people_make(n);
        conversations_open(conversations, 0, n / 2);
        for (unsigned i = 0; i < n; i++)
                devices[i].window = WINDOW;
        devices_pair(devices, conversations, 0, n / 2, &crowd);
        if (options.init > 0 && host_run(restart_group) != 0)
                fail("group could not be restarted");
        loop_on_tick(keep_under_way, &senders);
        devices_connect(devices, n, 64, 30);

        roles_begin();
        senders.sending = true;
        for (unsigned i = 0; i < n_rounds; i++) {
                loop_for(0.5 + (double) (random() % 1000) / 1e3);
                if (i % 4 == 2) {
                        kill_role("stonechat-socket@1.service");
                        n_socket_kills++;
                } else if (i % 8 == 5)
                        kill_role("stonechat-api.service");
                else
                        kill_role("stonechat-group.service");
        }
        loop_for(1);
        senders.sending = false;
        (void) devices_settle(devices, n, 60);
        roles_end_of_during();
        for (unsigned i = 0; i < n; i += 2)
                read_back(&devices[i], &stored);

        latency_print_head();
        crowd_print_latency("under kills", &crowd);
        uint64_t n_ended = codes_total(&crowd.ended), n_expected = (uint64_t) n_socket_kills * n;
        (void) crowd_print_faults("senders", &crowd, devices_lost(devices, n));
        if (n_ended > n_expected)
                printf("    %" PRIu64 " disconnections, more than the %" PRIu64 " of %u kills of socket\n",
                        n_ended, n_expected, n_socket_kills);
        printf("  read back: %" PRIu64 " lost, %" PRIu64 " doubles or late, %" PRIu64
               " before their turn, %" PRIu64 " not where they were acknowledged, %" PRIu64 " gaps\n",
                stored.n_lost, stored.n_doubles, stored.n_disordered, stored.n_elsewhere, stored.n_gaps);
        roles_print();
        return n_ended <= n_expected && crowd_is_whole(&crowd, devices_lost(devices, n)) &&
               stored.n_lost == 0 && stored.n_doubles == 0 && stored.n_disordered == 0 &&
               stored.n_elsewhere == 0 && stored.n_gaps == 0;
}
