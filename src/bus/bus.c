/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/bus.h"

#include <unistd.h>

#include "log/log.h"
#include "util/string-util.h"

#define LOG_CONTROL_PATH "/org/freedesktop/LogControl1"
#define LOG_CONTROL_INTERFACE "org.freedesktop.LogControl1"
#define STATISTICS_MAX 32U

/* What the vtables find their role by; lives as long as the role's slot. */
typedef struct BusRole {
        const BusRoleHandlers *handlers;
        void *userdata;
} BusRole;

static int drop_directed_signals(sd_bus_message *message, void *userdata, sd_bus_error *ret_error) {
        uint8_t type;

        return sd_bus_message_get_type(message, &type) >= 0 && type == SD_BUS_MESSAGE_SIGNAL &&
               sd_bus_message_get_destination(message) &&
               !streq(strempty(sd_bus_message_get_sender(message)), "org.freedesktop.DBus");
}

int bus_open(sd_event *event, sd_bus **ret) {
        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;

        int r = sd_bus_open_system(&bus);
        if (r < 0) {
                log_debug_errno(r, "There is no system bus, going on without: %m");
                *ret = NULL;
                return 0;
        }
        r = sd_bus_add_filter(bus, NULL, drop_directed_signals, NULL);
        if (r < 0)
                return r;
        r = sd_bus_attach_event(bus, event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(bus);
        return 1;
}

/* --- org.stonechat.Role1 --- */

static int get_role(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const BusRole *role = userdata;
        return sd_bus_message_append(reply, "s", role->handlers->role);
}

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        return sd_bus_message_append(reply, "s", STONECHAT_VERSION);
}

static int get_healthy(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const BusRole *role = userdata;
        bool healthy = !role->handlers->healthy || role->handlers->healthy(role->userdata);
        return sd_bus_message_append(reply, "b", (int) healthy);
}

static int get_status(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const BusRole *role = userdata;
        const char *status = role->handlers->status ? role->handlers->status(role->userdata) : NULL;
        return sd_bus_message_append(reply, "s", strempty(status));
}

static int get_statistics(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const BusRole *role = userdata;
        BusStatistic statistics[STATISTICS_MAX];
        size_t n = 0;

        if (role->handlers->statistics)
                n = role->handlers->statistics(statistics, ELEMENTSOF(statistics), role->userdata);
        int r = sd_bus_message_open_container(reply, 'a', "{st}");
        for (size_t i = 0; i < MIN(n, ELEMENTSOF(statistics)) && r >= 0; i++)
                r = sd_bus_message_append(reply, "{st}", statistics[i].name, statistics[i].value);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* Only root and our own user get here: sd-bus checks, for the method is not marked as unprivileged. */
static int method_reload(sd_bus_message *call, void *userdata, sd_bus_error *ret_error) {
        const BusRole *role = userdata;

        if (!role->handlers->reload)
                return sd_bus_error_set(
                        ret_error, SD_BUS_ERROR_NOT_SUPPORTED, "This role has nothing to reload.");
        role->handlers->reload(sd_bus_message_ref(call), role->userdata);
        return 1;
}

/* The same with what the unit's credentials are now: systemd hands them over only when a service starts. */
static int method_reload_credentials(sd_bus_message *call, void *userdata, sd_bus_error *ret_error) {
        const BusRole *role = userdata;
        const char *name;
        int fd;

        if (!role->handlers->credential)
                return sd_bus_error_set(
                        ret_error, SD_BUS_ERROR_NOT_SUPPORTED, "This role has no credentials.");
        int r = sd_bus_message_enter_container(call, 'a', "{sh}");
        while (r >= 0 && (r = sd_bus_message_read(call, "{sh}", &name, &fd)) > 0) {
                r = role->handlers->credential(name, fd, role->userdata);
                if (r < 0)
                        return sd_bus_error_set_errnof(
                                ret_error, r, "Failed to take the credential %s: %m", name);
        }
        if (r < 0)
                return r;
        return method_reload(call, userdata, ret_error);
}

void bus_reload_done(sd_bus_message *call, unsigned n_problems, const char *problems) {
        int r = sd_bus_reply_method_return(call, "us", (uint32_t) n_problems, strempty(problems));
        if (r < 0)
                log_warning_errno(r, "Failed to answer the reload request: %m");
        sd_bus_message_unref(call);
}

static const sd_bus_vtable role_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Role", "s", get_role, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Healthy", "b", get_healthy, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("StatusText", "s", get_status, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Statistics", "a{st}", get_statistics, 0, 0),
        SD_BUS_METHOD_WITH_ARGS(
                "Reload", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", n_problems, "s", problems), method_reload, 0),
        SD_BUS_METHOD_WITH_ARGS("ReloadCredentials", SD_BUS_ARGS("a{sh}", credentials),
                SD_BUS_RESULT("u", n_problems, "s", problems), method_reload_credentials, 0),
        SD_BUS_VTABLE_END,
};

void bus_role_changed(sd_bus *bus) {
        if (!bus || sd_bus_is_open(bus) <= 0)
                return;
        int r = sd_bus_emit_properties_changed(
                bus, BUS_ROLE_PATH, BUS_ROLE_INTERFACE, "Healthy", "StatusText", NULL);
        if (r < 0)
                log_debug_errno(r, "Failed to signal the role's state: %m");
}

/* --- org.freedesktop.LogControl1 --- */

static int get_log_level(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        return sd_bus_message_append(reply, "s", log_level_to_string(log_get_level()));
}

static int set_log_level(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *value, void *userdata, sd_bus_error *ret_error) {
        const char *text;

        int r = sd_bus_message_read(value, "s", &text);
        if (r < 0)
                return r;
        int level = log_level_from_string(text);
        if (level < 0)
                return sd_bus_error_setf(ret_error, SD_BUS_ERROR_INVALID_ARGS,
                        "'%s' is none of debug, info, notice, warning, err.", text);
        log_set_level(level);
        log_info("The log level is '%s' now.", text);
        return 0;
}

static int get_log_target(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        return sd_bus_message_append(reply, "s", log_get_target());
}

static int set_log_target(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *value, void *userdata, sd_bus_error *ret_error) {
        const char *text;

        int r = sd_bus_message_read(value, "s", &text);
        if (r < 0)
                return r;
        if (!streq(text, log_get_target()))
                return sd_bus_error_setf(ret_error, SD_BUS_ERROR_NOT_SUPPORTED,
                        "The log target is '%s' for as long as the service runs.", log_get_target());
        return 0;
}

static int get_syslog_identifier(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const BusRole *role = userdata;
        _cleanup_free_ char *identifier = format_string("stonechat-%s", role->handlers->role);
        return identifier ? sd_bus_message_append(reply, "s", identifier) : -ENOMEM;
}

static const sd_bus_vtable log_control_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_log_level, set_log_level, 0, 0),
        SD_BUS_WRITABLE_PROPERTY("LogTarget", "s", get_log_target, set_log_target, 0, 0),
        SD_BUS_PROPERTY("SyslogIdentifier", "s", get_syslog_identifier, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};

/* --- the name --- */

static int on_name(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        uint32_t result = 0;

        if (sd_bus_message_is_method_error(reply, NULL))
                log_warning("Failed to acquire the bus name: %s", sd_bus_message_get_error(reply)->message);
        else if (sd_bus_message_read(reply, "u", &result) < 0 || result != 1) /* primary owner */
                log_warning("The bus name belongs to another process.");
        return 0;
}

static int export_objects(sd_bus *bus, BusRole *role, sd_bus_slot **ret_role, sd_bus_slot **ret_log) {
        int r = sd_bus_add_object_vtable(
                bus, ret_role, BUS_ROLE_PATH, BUS_ROLE_INTERFACE, role_vtable, role);
        if (r < 0)
                return r;
        return sd_bus_add_object_vtable(
                bus, ret_log, LOG_CONTROL_PATH, LOG_CONTROL_INTERFACE, log_control_vtable, role);
}

int bus_export_role(sd_bus *bus, const char *name, const BusRoleHandlers *handlers, void *userdata,
        sd_bus_slot **ret_slot) {
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *role_slot = NULL, *log_slot = NULL;
        _cleanup_free_ BusRole *role = NULL;

        if (!bus)
                return 0;
        role = new0(BusRole, 1);
        if (!role)
                return -ENOMEM;
        *role = (BusRole){.handlers = handlers, .userdata = userdata};
        int r = export_objects(bus, role, &role_slot, &log_slot);
        if (r < 0)
                return r;
        r = sd_bus_request_name_async(bus, NULL, name, 0, on_name, NULL);
        if (r < 0)
                return r;
        /* The role's slot owns the role and the other slot. */
        r = sd_bus_slot_set_destroy_callback(log_slot, free);
        if (r < 0)
                return r;
        TAKE_PTR(role);
        r = sd_bus_slot_set_floating(log_slot, true);
        if (r < 0)
                return r;
        if (ret_slot)
                *ret_slot = TAKE_PTR(role_slot);
        else
                r = sd_bus_slot_set_floating(role_slot, true);
        return r < 0 ? r : 0;
}

int bus_read_properties(sd_bus_message *reply, BusPropertyReader reader, void *userdata) {
        const char *name;

        int r = sd_bus_message_enter_container(reply, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
                r = sd_bus_message_read(reply, "s", &name);
                if (r >= 0)
                        r = reader(reply, name, userdata);
                if (r >= 0)
                        r = sd_bus_message_exit_container(reply);
        }
        return r;
}
