/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "ctl/ctl.h"
#include "ctl/table.h"
#include "log/log.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* Tasks and the like are worth a line only while they run, or after they failed. */
static bool is_shown(const UnitInfo *unit) {
        if (!unit->active || (unit->load && !streq(unit->load, "loaded")))
                return false;
        return !unit_is_oneshot(unit) || !streq(unit->active, "inactive");
}

static bool is_bad(const UnitInfo *unit) {
        return streq(unit->active, "failed") || unit->healthy == 0;
}

int status_exit_code(const UnitList *list) {
        bool any_active = false;

        FOREACH_ARRAY(unit, list->units, list->n_units) {
                if (!is_shown(unit))
                        continue;
                if (is_bad(unit))
                        return EXIT_NOT_HEALTHY;
                any_active |= streq(unit->active, "active");
        }
        return any_active ? 0 : EXIT_NOT_HEALTHY;
}

/* --- for people --- */

static TableColor unit_color(const UnitInfo *unit) {
        if (is_bad(unit))
                return TABLE_BAD;
        return streq(unit->active, "active") ? TABLE_GOOD : TABLE_DIM;
}

static void add_since(Table *table, const UnitInfo *unit, uint64_t now) {
        char text[FORMAT_MAX];

        if (unit->since_usec == 0 || unit->since_usec > now)
                table_add(table, TABLE_DIM, "-");
        else
                table_add(table, TABLE_PLAIN, "%s", format_duration(now - unit->since_usec, text));
}

static void add_service(Table *table, const UnitInfo *unit, uint64_t now) {
        char size[FORMAT_MAX];

        table_add(table, TABLE_PLAIN, "%s", unit->name);
        table_add(table, unit_color(unit), "%s (%s)", unit->active, strempty(unit->sub));
        if (unit->healthy < 0 || (unit->healthy > 0 && !unit_is_running(unit)))
                table_add(table, TABLE_DIM, "-");
        else
                table_add(table, unit->healthy ? TABLE_GOOD : TABLE_BAD, "%s", unit->healthy ? "yes" : "no");
        add_since(table, unit, now);
        table_add(table, TABLE_PLAIN, "%" PRIu32, unit->restarts);
        table_add(table, unit->memory > 0 ? TABLE_PLAIN : TABLE_DIM, "%s",
                unit->memory > 0 ? format_size(unit->memory, size) : "-");
        if (!isempty(unit->reason))
                table_add(table, TABLE_BAD, "%s", unit->reason);
        else if (streq(unit->active, "failed"))
                table_add(table, TABLE_BAD, "%s", strempty(unit->result));
        else
                table_add(table, TABLE_PLAIN, "%s", unit_is_running(unit) ? strempty(unit->status) : "");
}

static int print_services(const UnitList *list, uint64_t now, const Options *options, FILE *out) {
        static const TableColumn columns[] = {
                {"UNIT"}, {"STATE"}, {"HEALTHY"}, {"FOR"}, {"RESTARTS", true}, {"MEMORY", true}, {"STATUS"}};
        _cleanup_(table_freep) Table *table = NULL;

        int r = table_new(&table, columns, ELEMENTSOF(columns));
        if (r < 0)
                return r;
        FOREACH_ARRAY(unit, list->units, list->n_units)
                if (unit_is_service(unit) && is_shown(unit))
                        add_service(table, unit, now);
        return table_print(table, out, options->legend, options->colors);
}

static int print_sockets(const UnitList *list, const Options *options, FILE *out) {
        static const TableColumn columns[] = {{"SOCKET"}, {"STATE"}, {"ADDRESS"}};
        _cleanup_(table_freep) Table *table = NULL;

        int r = table_new(&table, columns, ELEMENTSOF(columns));
        if (r < 0)
                return r;
        FOREACH_ARRAY(unit, list->units, list->n_units) {
                if (unit_is_service(unit) || !is_shown(unit))
                        continue;
                table_add(table, TABLE_PLAIN, "%s", unit->name);
                table_add(table, unit_color(unit), "%s (%s)", unit->active, strempty(unit->sub));
                table_add(table, TABLE_PLAIN, "%s", strempty(unit->listen));
        }
        return table_print(table, out, options->legend, options->colors);
}

/* Without --all: the two that are asked for most, and whatever is not 0. */
static bool is_of_interest(const UnitStatistic *statistic) {
        return statistic->value > 0 || streq(statistic->name, "connections") ||
               streq(statistic->name, "conversations");
}

static int print_statistics(const UnitList *list, const Options *options, FILE *out) {
        static const TableColumn columns[] = {{"UNIT"}, {"FIGURE"}, {"VALUE", true}};
        _cleanup_(table_freep) Table *table = NULL;

        int r = table_new(&table, columns, ELEMENTSOF(columns));
        if (r < 0)
                return r;
        FOREACH_ARRAY(unit, list->units, list->n_units)
                FOREACH_ARRAY(statistic, unit->statistics, unit->n_statistics) {
                        if (!options->all && !is_of_interest(statistic))
                                continue;
                        table_add(table, TABLE_PLAIN, "%s", unit->name);
                        table_add(table, TABLE_PLAIN, "%s", statistic->name);
                        table_add(table, TABLE_PLAIN, "%" PRIu64, statistic->value);
                }
        if (table_n_rows(table) == 0)
                return 0;
        fputc('\n', out);
        return table_print(table, out, options->legend, options->colors);
}

int status_print(const UnitList *list, uint64_t now, const Options *options, FILE *out) {
        int r = print_services(list, now, options, out);
        if (r < 0)
                return r;
        fputc('\n', out);
        r = print_sockets(list, options, out);
        if (r < 0)
                return r;
        return print_statistics(list, options, out);
}

/* --- for programs --- */

static json_t *text_or_null(const char *text) {
        return isempty(text) ? json_null() : json_string(text);
}

static json_t *unit_to_json(const UnitInfo *unit) {
        json_t *json = json_pack("{so so so so so sI}", "unit", text_or_null(unit->name), "load",
                text_or_null(unit->load), "active", text_or_null(unit->active), "sub",
                text_or_null(unit->sub), "result", text_or_null(unit->result), "since_ms",
                (json_int_t) (unit->since_usec / USEC_PER_MSEC));
        return json;
}

static json_t *statistics_to_json(const UnitInfo *unit) {
        json_t *json = json_object();

        FOREACH_ARRAY(statistic, unit->statistics, unit->n_statistics)
                json_object_set_new(json, statistic->name, json_integer((json_int_t) statistic->value));
        return json;
}

static json_t *service_to_json(const UnitInfo *unit) {
        json_t *json = unit_to_json(unit);

        json_object_set_new(
                json, "healthy", unit->healthy < 0 ? json_null() : json_boolean(unit->healthy > 0));
        json_object_set_new(json, "reason", text_or_null(unit->reason));
        json_object_set_new(json, "restarts", json_integer(unit->restarts));
        json_object_set_new(
                json, "main_pid", unit->main_pid > 0 ? json_integer(unit->main_pid) : json_null());
        json_object_set_new(
                json, "memory", unit->memory > 0 ? json_integer((json_int_t) unit->memory) : json_null());
        json_object_set_new(json, "version", text_or_null(unit->version));
        json_object_set_new(json, "status", text_or_null(unit->status));
        json_object_set_new(json, "statistics", statistics_to_json(unit));
        return json;
}

static json_t *socket_to_json(const UnitInfo *unit) {
        json_t *json = unit_to_json(unit);

        json_object_set_new(json, "listen", text_or_null(unit->listen));
        return json;
}

/* Everything that systemd knows, whether people would be shown it or not. */
json_t *status_to_json(const UnitList *list) {
        json_t *services = json_array(), *sockets = json_array();

        FOREACH_ARRAY(unit, list->units, list->n_units)
                if (unit_is_service(unit))
                        json_array_append_new(services, service_to_json(unit));
                else
                        json_array_append_new(sockets, socket_to_json(unit));
        return json_pack("{sb so so}", "healthy", status_exit_code(list) == 0, "services", services,
                "sockets", sockets);
}

int verb_status(const Options *options, int n_arguments, char *arguments[]) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_unit_list_ UnitList list = {};

        int r = ctl_bus_open(&bus);
        if (r < 0)
                return r;
        r = unit_list_load(bus, &list);
        if (r < 0)
                return r;
        r = options->json ? ctl_print_json(status_to_json(&list))
                          : status_print(&list, now_usec(CLOCK_REALTIME), options, stdout);
        return r < 0 ? r : status_exit_code(&list);
}
