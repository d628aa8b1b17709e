/* SPDX-License-Identifier: Apache-2.0 */

/* stonechat-job TASK: runs one task and ends. stonechat-job@TASK.service calls it. */

#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

#include "job/job.h"
#include "log/log.h"
#include "util/string-util.h"

static void print_help(void) {
        printf("stonechat-job TASK\n\nRuns one task; timers start it as "
               "stonechat-job@TASK.service.\n\nTasks:\n");
        for (const JobTask *task = job_tasks; task->name; task++)
                printf("  %-20s %s\n", task->name, task->description);
        printf("\nOptions:\n  -h --help            Show this help\n     --version         Show the "
               "version\n");
}

static void report_problem(const char *problem, void *userdata) {
        log_warning("%s", problem);
}

static int load_configuration(void) {
        _cleanup_(conf_freep) Conf *conf = NULL;

        int r = conf_load(&(ConfSource){.environment = environ}, report_problem, NULL, &conf);
        if (r < 0)
                return log_error_errno(r, "The configuration is not valid: %m");
        log_set_level(log_level_from_string(conf->log_level));
        return 0;
}

static const JobTask *choose_task(int argc, char *argv[]) {
        _cleanup_free_ char *names = strdup("");
        const JobTask *task = optind + 1 == argc ? job_find_task(argv[optind]) : NULL;

        if (task)
                return task;
        for (task = job_tasks; task->name && names; task++) {
                char *longer = format_string("%s%s%s", names, *names ? ", " : "", task->name);
                free(names);
                names = longer;
        }
        if (optind + 1 == argc)
                log_error("There is no task '%s'; there are: %s.", argv[optind], strempty(names));
        else
                log_error("Name one task; there are: %s.", strempty(names));
        return NULL;
}

static int run_task(const JobTask *task) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(job_freep) Job *job = NULL;

        int r = load_configuration();
        if (r < 0)
                return r;
        r = sd_event_default(&event);
        if (r >= 0)
                r = job_new(&job, event);
        if (r < 0)
                return log_error_errno(r, "Failed to set up the task: %m");
        return task->run(job);
}

int main(int argc, char *argv[]) {
        enum { ARG_VERSION = 256 };
        static const struct option options[] = {
                {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, ARG_VERSION},
                {},
        };
        int c;

        log_open("stonechat-job", LOG_INFO);
        signal(SIGPIPE, SIG_IGN);
        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case 'h':
                        print_help();
                        return EXIT_SUCCESS;
                case ARG_VERSION:
                        puts("stonechat " STONECHAT_VERSION);
                        return EXIT_SUCCESS;
                default:
                        return EXIT_FAILURE;
                }
        if (sodium_init() < 0)
                return log_error("Failed to initialise libsodium."), EXIT_FAILURE;
        const JobTask *task = choose_task(argc, argv);
        int r = task ? run_task(task) : -EINVAL;
        log_flush();
        return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
