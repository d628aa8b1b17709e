/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "bus/bus.h"
#include "log/log.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define MANAGER_NAME "org.freedesktop.systemd1"
#define MANAGER_PATH "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"
#define PROPERTIES_INTERFACE "org.freedesktop.DBus.Properties"
#define UNITS_MAX 256U
#define STATISTICS_MAX 64U

/* Shown even if systemd has not loaded them. */
static const char *const known_units[] = {
        "stonechat-api.service",
        "stonechat-api.socket",
        "stonechat-api-rpc.socket",
        "stonechat-arbiter.service",
        "stonechat-arbiter.socket",
        "stonechat-group.service",
        "stonechat-group.socket",
};

static void unit_info_done(UnitInfo *unit) {
        free(unit->name);
        free(unit->load);
        free(unit->active);
        free(unit->sub);
        free(unit->result);
        free(unit->status);
        free(unit->bus_name);
        free(unit->type);
        free(unit->listen);
        free(unit->version);
        free(unit->reason);
        FOREACH_ARRAY(statistic, unit->statistics, unit->n_statistics)
                free(statistic->name);
        free(unit->statistics);
        *unit = (UnitInfo){};
}

void unit_list_done(UnitList *list) {
        FOREACH_ARRAY(unit, list->units, list->n_units)
                unit_info_done(unit);
        free(list->units);
        *list = (UnitList){};
}

bool unit_is_service(const UnitInfo *unit) {
        const char *dot = strrchr(unit->name, '.');
        return dot && streq(dot, ".service");
}

bool unit_is_oneshot(const UnitInfo *unit) {
        return unit->type && streq(unit->type, "oneshot");
}

bool unit_is_running(const UnitInfo *unit) {
        return unit->active && (streq(unit->active, "active") || streq(unit->active, "reloading"));
}

static int read_string_variant(sd_bus_message *value, char **to) {
        const char *text;

        int r = sd_bus_message_read(value, "v", "s", &text);
        if (r < 0)
                return r;
        char *copy = strdup(text);
        if (!copy)
                return -ENOMEM;
        free(*to);
        *to = copy;
        return 0;
}

/* --- calls --- */

/* Without starting whom it asks. */
static int get_all(
        sd_bus *bus, const char *name, const char *path, const char *interface, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;

        int r = sd_bus_message_new_method_call(bus, &call, name, path, PROPERTIES_INTERFACE, "GetAll");
        if (r >= 0)
                r = sd_bus_message_append(call, "s", interface);
        if (r >= 0)
                r = sd_bus_message_set_auto_start(call, false);
        if (r < 0)
                return r;
        return sd_bus_call(bus, call, 0, NULL, ret);
}

/* --- systemd's view --- */

/* Listen a(ss): kind and address. */
static int read_listen(sd_bus_message *value, UnitInfo *unit) {
        const char *kind, *address;

        int r = sd_bus_message_enter_container(value, 'v', "a(ss)");
        if (r >= 0)
                r = sd_bus_message_enter_container(value, 'a', "(ss)");
        while (r >= 0 && (r = sd_bus_message_read(value, "(ss)", &kind, &address)) > 0) {
                char *longer =
                        format_string("%s%s%s", strempty(unit->listen), unit->listen ? " " : "", address);
                if (!longer)
                        return -ENOMEM;
                free(unit->listen);
                unit->listen = longer;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(value);
        return r < 0 ? r : sd_bus_message_exit_container(value);
}

static int read_unit_property(sd_bus_message *value, const char *name, void *userdata) {
        UnitInfo *unit = userdata;
        const struct {
                const char *name;
                char **text;
        } texts[] = {
                {"LoadState", &unit->load},
                {"ActiveState", &unit->active},
                {"SubState", &unit->sub},
                {"Result", &unit->result},
                {"StatusText", &unit->status},
                {"BusName", &unit->bus_name},
                {"Type", &unit->type},
        };
        FOREACH_ARRAY(text, texts, ELEMENTSOF(texts))
                if (streq(text->name, name))
                        return read_string_variant(value, text->text);
        if (streq(name, "NRestarts"))
                return sd_bus_message_read(value, "v", "u", &unit->restarts);
        if (streq(name, "MainPID"))
                return sd_bus_message_read(value, "v", "u", &unit->main_pid);
        if (streq(name, "ActiveEnterTimestamp"))
                return sd_bus_message_read(value, "v", "t", &unit->active_usec);
        if (streq(name, "StateChangeTimestamp"))
                return sd_bus_message_read(value, "v", "t", &unit->since_usec);
        if (streq(name, "Listen"))
                return read_listen(value, unit);
        return sd_bus_message_skip(value, "v");
}

static int load_unit(sd_bus *bus, UnitInfo *unit) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_free_ char *path = NULL;

        int r = sd_bus_path_encode(MANAGER_PATH "/unit", unit->name, &path);
        if (r >= 0)
                r = get_all(bus, MANAGER_NAME, path, "", &reply);
        if (r >= 0)
                r = bus_read_properties(reply, read_unit_property, unit);
        if (r >= 0 && unit_is_running(unit))
                unit->since_usec = unit->active_usec;
        return r;
}

/* --- the role's own view --- */

static int read_statistics(sd_bus_message *value, UnitInfo *unit) {
        UnitStatistic statistic = {};

        int r = sd_bus_message_enter_container(value, 'v', "a{st}");
        if (r >= 0)
                r = sd_bus_message_enter_container(value, 'a', "{st}");
        if (r >= 0 && !unit->statistics && !(unit->statistics = new0(UnitStatistic, STATISTICS_MAX)))
                return -ENOMEM;
        const char *name;
        while (r >= 0 && unit->n_statistics < STATISTICS_MAX &&
                (r = sd_bus_message_read(value, "{st}", &name, &statistic.value)) > 0) {
                if (!(statistic.name = strdup(name)))
                        return -ENOMEM;
                unit->statistics[unit->n_statistics++] = statistic;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(value);
        return r < 0 ? r : sd_bus_message_exit_container(value);
}

static int read_role_property(sd_bus_message *value, const char *name, void *userdata) {
        UnitInfo *unit = userdata;

        if (streq(name, "Version"))
                return read_string_variant(value, &unit->version);
        if (streq(name, "StatusText"))
                return read_string_variant(value, &unit->status);
        if (streq(name, "Healthy"))
                return sd_bus_message_read(value, "v", "b", &unit->healthy);
        if (streq(name, "Statistics"))
                return read_statistics(value, unit);
        return sd_bus_message_skip(value, "v");
}

/* That a role does not answer is shown, and is no error. */
static void load_role(sd_bus *bus, UnitInfo *unit) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;

        unit->healthy = -1;
        if (!unit_is_running(unit) || isempty(unit->bus_name))
                return;
        int r = get_all(bus, unit->bus_name, BUS_ROLE_PATH, BUS_ROLE_INTERFACE, &reply);
        if (r >= 0)
                r = bus_read_properties(reply, read_role_property, unit);
        unit->answers = r >= 0;
}

/* The resident memory of a process: the second number of statm, in pages. */
static uint64_t process_memory(uint32_t pid) {
        _cleanup_free_ char *path = format_string("/proc/%u/statm", pid), *text = NULL;
        uint64_t pages;

        if (pid == 0 || !path || read_file(path, 4096, &text, NULL) < 0 ||
                sscanf(text, "%*u %" SCNu64, &pages) != 1)
                return 0;
        return pages * (uint64_t) sysconf(_SC_PAGESIZE);
}

/* --- the arbiter's view --- */

static UnitInfo *find_unit(UnitList *list, const char *name) {
        FOREACH_ARRAY(unit, list->units, list->n_units)
                if (streq(unit->name, name))
                        return unit;
        return NULL;
}

static int read_arbiter_health(sd_bus_message *reply, UnitList *list) {
        const char *name, *reason;
        int healthy;

        int r = sd_bus_message_enter_container(reply, 'a', "(ssssustbss)");
        while (r >= 0 && (r = sd_bus_message_read(reply, "(ssssustbss)", &name, NULL, NULL, NULL, NULL, NULL,
                                  NULL, &healthy, NULL, &reason)) > 0) {
                UnitInfo *unit = find_unit(list, name);
                if (!unit)
                        continue;
                free(unit->reason);
                unit->healthy = healthy;
                unit->reason = strdup(reason);
                if (!unit->reason)
                        return -ENOMEM;
        }
        return r;
}

static int load_arbiter_health(sd_bus *bus, UnitList *list) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const UnitInfo *arbiter = find_unit(list, "stonechat-arbiter.service");

        if (!arbiter || !arbiter->answers)
                return 0;
        int r = sd_bus_get_property(bus, "org.stonechat.Arbiter", "/org/stonechat/Arbiter",
                "org.stonechat.Arbiter1", "Units", NULL, &reply, "a(ssssustbss)");
        return r < 0 ? r : read_arbiter_health(reply, list);
}

/* --- the list --- */

static int add_unit(UnitList *list, const char *name) {
        if (find_unit(list, name))
                return 0;
        if (list->n_units >= UNITS_MAX)
                return -E2BIG;
        char *copy = strdup(name);
        if (!copy)
                return -ENOMEM;
        list->units[list->n_units++] = (UnitInfo){.name = copy, .healthy = -1};
        return 0;
}

static int list_units(sd_bus *bus, UnitList *list) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *name;

        int r = sd_bus_call_method(bus, MANAGER_NAME, MANAGER_PATH, MANAGER_INTERFACE, "ListUnitsByPatterns",
                &error, &reply, "asas", 0, 2, "stonechat-*.service", "stonechat-*.socket");
        if (r < 0)
                return log_error_errno(
                        r, "systemd does not list the units: %s", error.message ?: "no answer");
        r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        while (r >= 0 && (r = sd_bus_message_read(reply, "(ssssssouso)", &name, NULL, NULL, NULL, NULL, NULL,
                                  NULL, NULL, NULL, NULL)) > 0)
                r = add_unit(list, name);
        for (size_t i = 0; i < ELEMENTSOF(known_units) && r >= 0; i++)
                r = add_unit(list, known_units[i]);
        return r;
}

static int compare_units(const void *a, const void *b) {
        return strcmp(((const UnitInfo *) a)->name, ((const UnitInfo *) b)->name);
}

static int load_all(sd_bus *bus, UnitList *list) {
        list->units = new0(UnitInfo, UNITS_MAX);
        if (!list->units)
                return log_oom();
        int r = list_units(bus, list);
        if (r < 0)
                return r;
        FOREACH_ARRAY(unit, list->units, list->n_units) {
                r = load_unit(bus, unit);
                if (r < 0)
                        return log_error_errno(
                                r, "Failed to read what systemd says about %s: %m", unit->name);
                load_role(bus, unit);
                unit->memory = process_memory(unit->main_pid);
        }
        qsort(list->units, list->n_units, sizeof(UnitInfo), compare_units);
        r = load_arbiter_health(bus, list);
        if (r < 0)
                log_warning_errno(r, "The arbiter does not tell its view: %m");
        return 0;
}

int unit_list_load(sd_bus *bus, UnitList *ret) {
        _cleanup_unit_list_ UnitList list = {};

        int r = load_all(bus, &list);
        if (r < 0)
                return r;
        *ret = list;
        list = (UnitList){};
        return 0;
}
