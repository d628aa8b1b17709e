/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* stonechatctl: one function a verb. Each prints to standard output, logs errors to standard error, and
 * answers the exit status or a negative errno (exit status 1). */

#include <jansson.h>
#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "conf/conf.h"
#include "ctl/units.h"

/* As systemctl: something is not running as it should. */
#define EXIT_NOT_HEALTHY 3

typedef struct Options {
        bool json;
        bool legend;
        bool colors;
        bool check; /* of config */
        bool all; /* of status */
        const char *config_directory; /* NULL: the standard ones */
} Options;

int verb_status(const Options *options, int n_arguments, char *arguments[]);
int verb_routes(const Options *options, int n_arguments, char *arguments[]);
int verb_config(const Options *options, int n_arguments, char *arguments[]);
int verb_log_level(const Options *options, int n_arguments, char *arguments[]);
int verb_reload(const Options *options, int n_arguments, char *arguments[]);
int verb_trace(const Options *options, int n_arguments, char *arguments[]);

/* The system bus, with a limit on how long an answer may take; failures are logged. */
int ctl_bus_open(sd_bus **ret);
/* Prints a document as JSON and a newline; takes it. */
int ctl_print_json(json_t *document);

/* `now`: CLOCK_REALTIME, microseconds. Pure, for tests. */
int status_print(const UnitList *list, uint64_t now, const Options *options, FILE *out);
json_t *status_to_json(const UnitList *list);
/* 0 or EXIT_NOT_HEALTHY. */
int status_exit_code(const UnitList *list);

/* The id in what a user gives: 32 hexadecimal digits, or a whole traceparent. -EINVAL. */
int trace_id_from_user(const char *text, char ret[static 33]);
