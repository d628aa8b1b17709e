/* SPDX-License-Identifier: Apache-2.0 */

/* stonechat-scenario: one bad client or one bad moment, and what the others feel of it. Talks to loopback
 * only. tests/scenario/run makes the host for it. */

#include <getopt.h>
#include <signal.h>
#include <stdio.h>

#include "scenario/scenarios.h"
#include "scenario/world.h"
#include "util/string-util.h"

static const struct {
        const char *name;
        bool (*run)(void);
        const char *about;
} scenarios[] = {
        {"greedy", scenario_greedy, "one account reads history as fast as it can, beside pairs that talk"},
        {"recovery", scenario_recovery, "devices that come back at once, with messages missed"},
        {"restart", scenario_restart, "group is restarted and killed under clients that talk"},
        {"conversations", scenario_conversations, "one user in very many conversations"},
        {"target", scenario_target, "the target is restarted again and again"},
        {"flood", scenario_flood, "strangers who never sign in"},
        {"crash", scenario_crash, "roles are killed under senders with eight messages under way"},
};

static int usage(void) {
        fputs("stonechat-scenario [OPTION …] NAME\n"
              "  --api=127.0.0.1:8080 --socket=127.0.0.1:8090   where the server is (loopback only)\n"
              "  --slice=DIRECTORY  the control group of the server's units\n"
              "  --init=PID         PID 1 of its host, to restart units there\n"
              "  --short            a small form, for tests\n"
              "  --clients=N --messages=N --rate=N --rounds=N --seconds=N   instead of the scenario's own\n",
                stderr);
        for (size_t i = 0; i < ELEMENTSOF(scenarios); i++)
                fprintf(stderr, "  %-14s %s\n", scenarios[i].name, scenarios[i].about);
        return 2;
}

static int parse_options(int argc, char *argv[]) {
        static const struct option names[] = {
                {"api", required_argument, NULL, 'a'},
                {"socket", required_argument, NULL, 's'},
                {"slice", required_argument, NULL, 'l'},
                {"init", required_argument, NULL, 'i'},
                {"short", no_argument, NULL, 'S'},
                {"clients", required_argument, NULL, 'c'},
                {"messages", required_argument, NULL, 'm'},
                {"rate", required_argument, NULL, 'r'},
                {"rounds", required_argument, NULL, 'o'},
                {"seconds", required_argument, NULL, 't'},
                {},
        };
        unsigned *const numbers[] = {
                ['i'] = &options.init,
                ['c'] = &options.clients,
                ['m'] = &options.messages,
                ['r'] = &options.rate,
                ['o'] = &options.rounds,
                ['t'] = &options.seconds,
        };
        uint64_t value;
        int c, r = 0;

        while (r >= 0 && (c = getopt_long(argc, argv, "", names, NULL)) >= 0)
                if (c == 'a')
                        r = parse_endpoint(optarg, &options.api);
                else if (c == 's')
                        r = parse_endpoint(optarg, &options.socket);
                else if (c == 'l')
                        options.slice = optarg;
                else if (c == 'S')
                        options.is_short = true;
                else if (c == '?')
                        return -EINVAL;
                else if ((r = parse_u64(optarg, INT32_MAX, &value)) >= 0)
                        *numbers[c] = (unsigned) value;
        return r;
}

int main(int argc, char *argv[]) {
        assert_se(parse_endpoint("127.0.0.1:8080", &options.api) == 0);
        assert_se(parse_endpoint("127.0.0.1:8090", &options.socket) == 0);
        if (parse_options(argc, argv) < 0 || optind != argc - 1)
                return usage();
        signal(SIGPIPE, SIG_IGN);
        setvbuf(stdout, NULL, _IOLBF, 0);
        for (size_t i = 0; i < ELEMENTSOF(scenarios); i++)
                if (streq(argv[optind], scenarios[i].name)) {
                        bool good = scenarios[i].run();
                        printf("  %s\n", good ? "Nobody was harmed." : "WRONG: see above.");
                        return good ? 0 : 1;
                }
        return usage();
}
