/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <unistd.h>

#include "bus/bus.h"
#include "ctl/ctl.h"
#include "ctl/table.h"
#include "log/log.h"
#include "log/trace.h"
#include "util/bytes.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define CALL_TIMEOUT_USEC (5 * USEC_PER_SEC)
#define LOG_CONTROL_PATH "/org/freedesktop/LogControl1"
#define LOG_CONTROL_INTERFACE "org.freedesktop.LogControl1"

int ctl_bus_open(sd_bus **ret) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;

        int r = sd_bus_open_system(&bus);
        if (r < 0)
                return log_error_errno(r, "Failed to connect to the system bus: %m");
        r = sd_bus_set_method_call_timeout(bus, CALL_TIMEOUT_USEC);
        if (r < 0)
                return log_error_errno(r, "Failed to set up the bus connection: %m");
        *ret = TAKE_PTR(bus);
        return 0;
}

int ctl_print_json(json_t *document) {
        int r = document ? json_dumpf(document, stdout, JSON_INDENT(2)) : -1;

        json_decref(document);
        if (r < 0)
                return log_oom();
        putchar('\n');
        return 0;
}

/* --- routes --- */

static int read_route(sd_bus_message *reply, Table *table, json_t *array) {
        const char *host, *address;
        uint32_t first, last;
        uint64_t epoch;

        int r = sd_bus_message_read(reply, "(uusts)", &first, &last, &host, &epoch, &address);
        if (r <= 0)
                return r;
        table_add(table, TABLE_PLAIN, "%" PRIu32 "-%" PRIu32, first, last);
        table_add(table, TABLE_PLAIN, "%s", host);
        table_add(table, TABLE_PLAIN, "%" PRIu64, epoch);
        table_add(table, TABLE_PLAIN, "%s", address);
        json_array_append_new(
                array, json_pack("{si si ss sI ss}", "first_shard", (int) first, "last_shard", (int) last,
                               "host", host, "epoch", (json_int_t) epoch, "address", address));
        return 1;
}

/* Does not start the arbiter. */
static int get_routes(sd_bus *bus, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        int r = sd_bus_message_new_method_call(bus, &call, "org.stonechat.Arbiter", "/org/stonechat/Arbiter",
                "org.freedesktop.DBus.Properties", "Get");
        if (r >= 0)
                r = sd_bus_message_append(call, "ss", "org.stonechat.Arbiter1", "Routes");
        if (r >= 0)
                r = sd_bus_message_set_auto_start(call, false);
        if (r >= 0)
                r = sd_bus_call(bus, call, 0, &error, &reply);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'v', "a(uusts)");
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "(uusts)");
        if (r < 0)
                return log_error_errno(
                        r, "The arbiter does not tell the routes: %s", error.message ?: "no answer");
        *ret = TAKE_PTR(reply);
        return 0;
}

static int print_routes(sd_bus_message *reply, const Options *options) {
        static const TableColumn columns[] = {{"SHARDS"}, {"HOST"}, {"EPOCH", true}, {"ADDRESS"}};
        _cleanup_(table_freep) Table *table = NULL;

        int r = table_new(&table, columns, ELEMENTSOF(columns));
        if (r < 0)
                return log_oom();
        json_t *array = json_array();
        while ((r = read_route(reply, table, array)) > 0)
                ;
        if (r < 0)
                log_error_errno(r, "Failed to read the routes: %m");
        else if (options->json)
                return ctl_print_json(json_pack("{so}", "routes", array));
        else
                r = table_print(table, stdout, options->legend, options->colors);
        json_decref(array);
        return r;
}

int verb_routes(const Options *options, int n_arguments, char *arguments[]) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;

        int r = ctl_bus_open(&bus);
        if (r >= 0)
                r = get_routes(bus, &reply);
        return r < 0 ? r : print_routes(reply, options);
}

/* --- config --- */

typedef struct Problems {
        unsigned n;
        json_t *texts;
} Problems;

static void on_problem(const char *problem, void *userdata) {
        Problems *problems = userdata;

        problems->n++;
        json_array_append_new(problems->texts, json_string(problem));
        fprintf(stderr, "%s\n", problem);
}

/* conf->sources[] says where a value comes from; nothing means the default. */
static const char *value_source(const Conf *conf, size_t i) {
        return conf->sources && conf->sources[i] ? conf->sources[i] : "default";
}

static int print_config(const Conf *conf, const Options *options) {
        static const TableColumn columns[] = {{"SECTION"}, {"KEY"}, {"VALUE"}, {"SOURCE"}};
        _cleanup_(table_freep) Table *table = NULL;

        int r = table_new(&table, columns, ELEMENTSOF(columns));
        if (r < 0)
                return r;
        for (size_t i = 0; i < conf_n_keys; i++) {
                _cleanup_free_ char *value = conf_format(conf, &conf_keys[i]);
                const char *source = value_source(conf, i);
                if (!value)
                        return -ENOMEM;
                table_add(table, TABLE_PLAIN, "%s", conf_keys[i].section);
                table_add(table, TABLE_PLAIN, "%s", conf_keys[i].name);
                table_add(table, TABLE_PLAIN, "%s", value);
                table_add(table, streq(source, "default") ? TABLE_DIM : TABLE_PLAIN, "%s", source);
        }
        return table_print(table, stdout, options->legend, options->colors);
}

static json_t *config_to_json(const Conf *conf, json_t *problems) {
        json_t *values = json_array();

        for (size_t i = 0; i < conf_n_keys; i++) {
                _cleanup_free_ char *value = conf_format(conf, &conf_keys[i]);
                json_array_append_new(
                        values, json_pack("{ss ss ss ss sb}", "section", conf_keys[i].section, "key",
                                        conf_keys[i].name, "value", strempty(value), "source",
                                        value_source(conf, i), "reloadable", conf_keys[i].reloadable));
        }
        return json_pack("{so sO}", "values", values, "problems", problems);
}

int verb_config(const Options *options, int n_arguments, char *arguments[]) {
        const char *directories[] = {options->config_directory, NULL};
        const ConfSource source = {
                .dirs = options->config_directory ? directories : NULL, .environment = environ};
        _cleanup_(conf_freep) Conf *conf = NULL;
        Problems problems = {.texts = json_array()};

        int r = conf_load(&source, on_problem, &problems, &conf);
        if (!conf)
                log_error_errno(r, "Failed to load the configuration: %m");
        else if (options->json)
                (void) ctl_print_json(config_to_json(conf, problems.texts));
        else if (!options->check && print_config(conf, options) < 0)
                (void) log_oom();
        else if (options->check && problems.n == 0 && r >= 0)
                puts("The configuration is valid.");
        json_decref(problems.texts);
        if (options->check && problems.n > 0)
                return EXIT_FAILURE;
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* --- log-level --- */

static int set_level(sd_bus *bus, const UnitInfo *unit, const char *level) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        int r = sd_bus_set_property(bus, unit->bus_name, LOG_CONTROL_PATH, LOG_CONTROL_INTERFACE, "LogLevel",
                &error, "s", level);
        if (r < 0)
                log_error_errno(r, "%s: %s", unit->name, error.message ?: "no answer");
        return r;
}

static int show_level(sd_bus *bus, const UnitInfo *unit, Table *table, json_t *array) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *level = NULL;

        int r = sd_bus_get_property_string(
                bus, unit->bus_name, LOG_CONTROL_PATH, LOG_CONTROL_INTERFACE, "LogLevel", &error, &level);
        if (r < 0)
                return log_error_errno(r, "%s: %s", unit->name, error.message ?: "no answer");
        table_add(table, TABLE_PLAIN, "%s", unit->name);
        table_add(table, TABLE_PLAIN, "%s", level);
        json_array_append_new(array, json_pack("{ss ss}", "unit", unit->name, "level", level));
        return 0;
}

/* The roles that run: only these have a log level and a configuration in force. */
static int open_roles(sd_bus **ret_bus, UnitList *ret) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;

        int r = ctl_bus_open(&bus);
        if (r < 0)
                return r;
        r = unit_list_load(bus, ret);
        if (r < 0)
                return r;
        *ret_bus = TAKE_PTR(bus);
        return 0;
}

static bool is_role(const UnitInfo *unit) {
        return unit_is_running(unit) && !isempty(unit->bus_name);
}

int verb_log_level(const Options *options, int n_arguments, char *arguments[]) {
        static const TableColumn columns[] = {{"UNIT"}, {"LEVEL"}};
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_unit_list_ UnitList list = {};
        _cleanup_(table_freep) Table *table = NULL;
        int r, worst = 0;

        if (n_arguments > 0 && log_level_from_string(arguments[0]) < 0)
                return log_error_errno(
                        -EINVAL, "'%s' is none of debug, info, notice, warning, err.", arguments[0]);
        r = open_roles(&bus, &list);
        if (r < 0)
                return r;
        r = table_new(&table, columns, ELEMENTSOF(columns));
        if (r < 0)
                return log_oom();
        json_t *array = json_array();
        FOREACH_ARRAY(unit, list.units, list.n_units) {
                if (!is_role(unit))
                        continue;
                r = n_arguments > 0 ? set_level(bus, unit, arguments[0]) : 0;
                if (r >= 0)
                        r = show_level(bus, unit, table, array);
                worst = MIN(worst, r);
        }
        if (options->json)
                r = ctl_print_json(json_pack("{so}", "levels", array));
        else {
                json_decref(array);
                r = table_print(table, stdout, options->legend, options->colors);
        }
        return MIN(worst, r);
}

/* --- trace --- */

int trace_id_from_user(const char *text, char ret[static 33]) {
        char lower[33] = "";
        uint8_t id[16];
        Trace trace;

        for (size_t i = 0; i < 32 && text[i]; i++) /* as in the journal */
                lower[i] = text[i] >= 'A' && text[i] <= 'F' ? (char) (text[i] - 'A' + 'a') : text[i];
        if (strlen(text) == 32 && hex_decode(lower, id, sizeof(id)) >= 0)
                memcpy(ret, lower, sizeof(lower));
        else if (trace_parse(text, &trace) >= 0)
                trace_format_id(&trace, ret);
        else
                return -EINVAL;
        return 0;
}

int verb_trace(const Options *options, int n_arguments, char *arguments[]) {
        char match[sizeof("STONECHAT_TRACE_ID=") + 33] = "STONECHAT_TRACE_ID=";

        if (trace_id_from_user(arguments[0], match + strlen(match)) < 0)
                return log_error_errno(-EINVAL,
                        "'%s' is no trace id: 32 hexadecimal digits, or a traceparent header.",
                        arguments[0]);
        const char *const command[] = {"journalctl", match, "--no-hostname", "--output",
                options->json ? "json" : "short-precise", options->legend ? NULL : "--quiet", NULL};
        execvp(command[0], (char **) command);
        return log_error_errno(-errno, "Failed to run journalctl: %m");
}
