/* SPDX-License-Identifier: Apache-2.0 */

/* stonechatctl reload: asks roles to read their configuration again, and hands them their credentials as they
 * are on disk now, which systemd 252 does only when a service starts. It is also what the units have as
 * ExecReload=, and runs as root there. */

#include <fcntl.h>
#include <stdio.h>

#include "bus/bus.h"
#include "ctl/ctl.h"
#include "log/log.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define RELOAD_TIMEOUT_USEC (60 * USEC_PER_SEC)
#define MANAGER_NAME "org.freedesktop.systemd1"
#define UNITS_PATH "/org/freedesktop/systemd1/unit"
#define SERVICE_INTERFACE "org.freedesktop.systemd1.Service"

/* --- credentials --- */

/* Appends one of the unit's LoadCredential=. What is no absolute path systemd looks for itself, in several
 * places, and a socket is not to be asked twice: these stay as they are. */
static int append_credential(sd_bus_message *call, const char *unit, const char *name, const char *path) {
        if (*path != '/')
                return 0;
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 && errno == ENXIO)
                return 0;
        if (fd < 0)
                return log_error_errno(
                        -errno, "%s: Failed to open the credential %s, %s: %m", unit, name, path);
        return sd_bus_message_append(call, "{sh}", name, fd);
}

static int append_credentials(sd_bus *bus, sd_bus_message *call, const char *unit) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *property = NULL;
        _cleanup_free_ char *path = NULL;
        const char *name, *file;

        int r = sd_bus_path_encode(UNITS_PATH, unit, &path);
        if (r >= 0)
                r = sd_bus_get_property(bus, MANAGER_NAME, path, SERVICE_INTERFACE, "LoadCredential", &error,
                        &property, "a(ss)");
        if (r >= 0)
                r = sd_bus_message_open_container(call, 'a', "{sh}");
        if (r >= 0)
                r = sd_bus_message_enter_container(property, 'a', "(ss)");
        while (r >= 0 && (r = sd_bus_message_read(property, "(ss)", &name, &file)) > 0)
                r = append_credential(call, unit, name, file);
        return r < 0 ? r : sd_bus_message_close_container(call);
}

/* --- reloading --- */

static int reload_role(sd_bus *bus, const char *unit, const char *bus_name, json_t *array) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *problems = "";
        uint32_t n_problems = 0;

        int r = sd_bus_message_new_method_call(
                bus, &call, bus_name, BUS_ROLE_PATH, BUS_ROLE_INTERFACE, "ReloadCredentials");
        if (r >= 0)
                r = append_credentials(bus, call, unit);
        if (r >= 0)
                r = sd_bus_call(bus, call, RELOAD_TIMEOUT_USEC, &error, &reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "us", &n_problems, &problems);
        if (r < 0)
                return log_error_errno(r, "%s: %s", unit, error.message ?: strerror(-r));
        json_array_append_new(array,
                json_pack("{ss si ss}", "unit", unit, "n_problems", (int) n_problems, "problems", problems));
        return n_problems > 0 ? EXIT_FAILURE : 0;
}

static int reload_unit(sd_bus *bus, const char *unit, json_t *array) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = NULL, *bus_name = NULL;

        int r = sd_bus_path_encode(UNITS_PATH, unit, &path);
        if (r >= 0)
                r = sd_bus_get_property_string(
                        bus, MANAGER_NAME, path, SERVICE_INTERFACE, "BusName", &error, &bus_name);
        if (r < 0)
                return log_error_errno(r, "%s: %s", unit, error.message ?: strerror(-r));
        if (!startswith(unit, "stonechat-") || isempty(bus_name))
                return log_error_errno(-EINVAL, "%s is no role of Stonechat.", unit);
        return reload_role(bus, unit, bus_name, array);
}

static int reload_running(sd_bus *bus, json_t *array) {
        _cleanup_unit_list_ UnitList list = {};
        int worst = 0;

        int r = unit_list_load(bus, &list);
        if (r < 0)
                return r;
        FOREACH_ARRAY(unit, list.units, list.n_units) {
                if (!unit_is_running(unit) || isempty(unit->bus_name))
                        continue;
                if (reload_role(bus, unit->name, unit->bus_name, array) != 0)
                        worst = EXIT_FAILURE;
        }
        return worst;
}

static const char *problems_of(const json_t *reloaded, size_t i) {
        return strempty(json_string_value(json_object_get(json_array_get(reloaded, i), "problems")));
}

/* All roles read the same files, so what several of them report is printed once, with all their names. */
static void print_problems(const json_t *reloaded) {
        for (size_t i = 0; i < json_array_size(reloaded); i++) {
                const char *problems = problems_of(reloaded, i);
                bool first = true;

                for (size_t j = 0; j < i && first; j++)
                        first = !streq(problems_of(reloaded, j), problems);
                if (!first || isempty(problems))
                        continue;
                for (size_t j = i; j < json_array_size(reloaded); j++)
                        if (streq(problems_of(reloaded, j), problems))
                                fprintf(stderr, "%s%s", j > i ? ", " : "",
                                        json_string_value(
                                                json_object_get(json_array_get(reloaded, j), "unit")));
                fprintf(stderr, ":\n%s", problems);
        }
}

static bool any_problem(const json_t *reloaded) {
        for (size_t i = 0; i < json_array_size(reloaded); i++)
                if (!isempty(problems_of(reloaded, i)))
                        return true;
        return false;
}

int verb_reload(const Options *options, int n_arguments, char *arguments[]) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        int worst = 0;

        int r = ctl_bus_open(&bus);
        if (r < 0)
                return r;
        json_t *array = json_array();
        for (int i = 0; i < n_arguments; i++)
                if (reload_unit(bus, arguments[i], array) != 0)
                        worst = EXIT_FAILURE;
        if (n_arguments == 0)
                worst = reload_running(bus, array);
        if (options->json)
                return ctl_print_json(json_pack("{so}", "reloaded", array)) < 0 ? EXIT_FAILURE : worst;
        print_problems(array);
        if (n_arguments == 0)
                printf("%zu roles have reloaded their configuration.%s\n", json_array_size(array),
                        any_problem(array)
                                ? " What is bad was not taken: there the old value stays in force."
                                : "");
        json_decref(array);
        return worst;
}
