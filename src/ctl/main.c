/* SPDX-License-Identifier: Apache-2.0 */

/* stonechatctl: the operator's command. */

#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "log/log.h"
#include "util/string-util.h"

typedef struct Verb {
        const char *name, *arguments, *help;
        int min_arguments, max_arguments;
        int (*run)(const Options *options, int n_arguments, char *arguments[]);
} Verb;

static int verb_help(const Options *options, int n_arguments, char *arguments[]);

static int verb_version(const Options *options, int n_arguments, char *arguments[]) {
        if (options->json)
                return ctl_print_json(json_pack("{ss}", "version", STONECHAT_VERSION));
        puts("stonechat " STONECHAT_VERSION);
        return 0;
}

static const Verb verbs[] = {
        {"status", "", "Show the roles, their health and figures (the default)", 0, 0, verb_status},
        {"routes", "", "Show which host serves which conversations", 0, 0, verb_routes},
        {"config", "", "Show every value in force and where it comes from", 0, 0, verb_config},
        {"reload", "[UNIT …]",
                "Let all roles, or these, reload their configuration and credentials, and wait", 0, 64,
                verb_reload},
        {"log-level", "[LEVEL]", "Show or set the log level of all roles", 0, 1, verb_log_level},
        {"trace", "ID", "Show one request's way through the roles", 1, 1, verb_trace},
        {"version", "", "Show the version", 0, 0, verb_version},
        {"help", "", "Show this help", 0, 0, verb_help},
};

static int verb_help(const Options *options, int n_arguments, char *arguments[]) {
        printf("stonechatctl [OPTION …] [VERB]\n\nLooks at the Stonechat server on this host and controls "
               "it.\n\nVerbs:\n");
        FOREACH_ARRAY(verb, verbs, ELEMENTSOF(verbs))
                printf("  %-9s %-8s  %s\n", verb->name, verb->arguments, verb->help);
        printf("\nOptions:\n"
               "     --json                 Print JSON, for programs\n"
               "     --no-legend            Print no column headings\n"
               "     --all                  status: show figures that are zero, too\n"
               "     --check                config: only say what is wrong; exit status 1 if anything is\n"
               "     --config-directory=DIR config: read the configuration there only\n"
               "  -h --help                 Show this help\n"
               "     --version              Show the version\n"
               "\nSee stonechatctl(1).\n");
        return 0;
}

static bool use_colors(void) {
        const char *term = getenv("TERM");
        return isatty(STDOUT_FILENO) && isempty(getenv("NO_COLOR")) && term && !streq(term, "dumb");
}

/* The verb's name, or NULL after an error. --help and --version are verbs too. */
static const char *parse_options(int argc, char *argv[], Options *options) {
        enum { ARG_VERSION = 256, ARG_JSON, ARG_NO_LEGEND, ARG_ALL, ARG_CHECK, ARG_CONFIG_DIRECTORY };
        static const struct option long_options[] = {
                {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, ARG_VERSION},
                {"json", no_argument, NULL, ARG_JSON},
                {"no-legend", no_argument, NULL, ARG_NO_LEGEND},
                {"all", no_argument, NULL, ARG_ALL},
                {"check", no_argument, NULL, ARG_CHECK},
                {"config-directory", required_argument, NULL, ARG_CONFIG_DIRECTORY},
                {},
        };
        const char *verb = NULL;
        int c;

        while ((c = getopt_long(argc, argv, "h", long_options, NULL)) >= 0)
                switch (c) {
                case 'h':
                        verb = "help";
                        break;
                case ARG_VERSION:
                        verb = "version";
                        break;
                case ARG_JSON:
                        options->json = true;
                        break;
                case ARG_NO_LEGEND:
                        options->legend = false;
                        break;
                case ARG_ALL:
                        options->all = true;
                        break;
                case ARG_CHECK:
                        options->check = true;
                        break;
                case ARG_CONFIG_DIRECTORY:
                        options->config_directory = optarg;
                        break;
                default:
                        return NULL;
                }
        if (verb) {
                optind = argc;
                return verb;
        }
        return optind < argc ? argv[optind++] : "status";
}

static int run_verb(const char *name, const Options *options, int n_arguments, char *arguments[]) {
        FOREACH_ARRAY(verb, verbs, ELEMENTSOF(verbs)) {
                if (!streq(verb->name, name))
                        continue;
                if (n_arguments < verb->min_arguments)
                        return log_error_errno(-EINVAL, "%s needs an argument: %s.", name, verb->arguments);
                if (n_arguments > verb->max_arguments)
                        return log_error_errno(
                                -EINVAL, "Unexpected argument '%s'.", arguments[verb->max_arguments]);
                if (options->check && verb->run != verb_config)
                        return log_error_errno(-EINVAL, "--check goes with config only.");
                return verb->run(options, n_arguments, arguments);
        }
        return log_error_errno(-EINVAL, "There is no verb '%s'; see stonechatctl --help.", name);
}

int main(int argc, char *argv[]) {
        Options options = {.legend = true, .colors = use_colors()};

        log_open_command("stonechatctl", LOG_INFO);
        const char *verb = parse_options(argc, argv, &options);
        if (!verb)
                return EXIT_FAILURE;
        int r = run_verb(verb, &options, argc - optind, argv + optind);
        return r < 0 ? EXIT_FAILURE : r;
}
