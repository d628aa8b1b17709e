/* SPDX-License-Identifier: Apache-2.0 */
#include "arbiter/watch.h"

#include <inttypes.h>
#include <stdio.h>

#include "bus/bus.h"
#include "log/log.h"
#include "util/string-util.h"

#define MANAGER_NAME "org.freedesktop.systemd1"
#define MANAGER_PATH "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"
#define PROPERTIES_INTERFACE "org.freedesktop.DBus.Properties"
#define REPLY_TIMEOUT_USEC (5 * USEC_PER_SEC)

/* Watched even while systemd has not loaded them; other units are found when they are loaded. */
static const char *const known_units[] = {
        "stonechat-api.service",
        "stonechat-api.socket",
        "stonechat-api-rpc.socket",
        "stonechat-arbiter.service",
        "stonechat-arbiter.socket",
        ARBITER_GROUP_SERVICE,
        ARBITER_GROUP_SOCKET,
};

typedef struct WatchedUnit {
        UnitWatch *watch;
        char *name; /* key */
        char *path;
        char *bus_name; /* NULL: none */
        sd_bus_slot *changed, *reading, *role_changed, *role_health;
        bool again; /* it changed while a reading was under way */
        bool health_again; /* the role said so while it was being asked */
        bool listed; /* in the last list */
        UT_hash_handle hh;
} WatchedUnit;

struct UnitWatch {
        sd_bus *bus;
        UnitWatchReport report;
        void *userdata;
        WatchedUnit *units;
        sd_bus_slot *manager_signals, *owner_changed, *subscribe, *list;
        bool list_again;
        unsigned n_failures; /* lists refused in a row */
        sd_event_source *timer;
};

/* --- one unit --- */

static WatchedUnit *watched_unit_free(WatchedUnit *unit) {
        if (!unit)
                return NULL;
        sd_bus_slot_unref(unit->changed);
        sd_bus_slot_unref(unit->reading);
        sd_bus_slot_unref(unit->role_changed);
        sd_bus_slot_unref(unit->role_health);
        free(unit->name);
        free(unit->path);
        free(unit->bus_name);
        free(unit);
        return NULL;
}
DEFINE_CLEANUP(WatchedUnit *, watched_unit_free);

static void forget_unit(UnitWatch *watch, WatchedUnit *unit) {
        HASH_DEL(watch->units, unit);
        watch->report(&(ArbiterEvent){.type = ARBITER_EVENT_GONE, .name = unit->name}, watch->userdata);
        watched_unit_free(unit);
}

static int request_role_health(WatchedUnit *unit);

static int on_role_health(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        WatchedUnit *unit = userdata;
        ReportedHealth reported = REPORTED_UNKNOWN;
        int healthy;

        unit->role_health = sd_bus_slot_unref(unit->role_health);
        if (TAKE_GENERIC(unit->health_again, false))
                (void) request_role_health(unit);
        if (!sd_bus_message_is_method_error(reply, NULL) &&
                sd_bus_message_read(reply, "v", "b", &healthy) >= 0)
                reported = healthy ? REPORTED_HEALTHY : REPORTED_UNHEALTHY;
        unit->watch->report(
                &(ArbiterEvent){
                        .type = ARBITER_EVENT_REPORTED_HEALTH, .name = unit->name, .reported = reported},
                unit->watch->userdata);
        return 0;
}

/* Asks the role whether it is healthy, without starting it. */
static int request_role_health(WatchedUnit *unit) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;

        if (!unit->bus_name)
                return 0;
        if (unit->role_health) {
                unit->health_again = true;
                return 0;
        }
        int r = sd_bus_message_new_method_call(
                unit->watch->bus, &call, unit->bus_name, BUS_ROLE_PATH, PROPERTIES_INTERFACE, "Get");
        if (r >= 0)
                r = sd_bus_message_append(call, "ss", BUS_ROLE_INTERFACE, "Healthy");
        if (r >= 0)
                r = sd_bus_message_set_auto_start(call, false);
        if (r < 0)
                return r;
        return sd_bus_call_async(
                unit->watch->bus, &unit->role_health, call, on_role_health, unit, REPLY_TIMEOUT_USEC);
}

static int read_text(sd_bus_message *reply, char *to, size_t size) {
        const char *text;
        int r = sd_bus_message_read(reply, "v", "s", &text);
        if (r >= 0)
                snprintf(to, size, "%s", text);
        return r;
}

static int read_invocation(sd_bus_message *reply, UnitReading *reading) {
        const void *id;
        size_t size;

        int r = sd_bus_message_enter_container(reply, 'v', "ay");
        if (r >= 0)
                r = sd_bus_message_read_array(reply, 'y', &id, &size);
        if (r >= 0)
                r = sd_bus_message_exit_container(reply);
        if (r >= 0 && size == 16)
                hex_encode(id, size, reading->invocation);
        return r;
}

/* What GetAll answers about one unit. */
typedef struct UnitProperties {
        UnitReading reading;
        bool loaded;
} UnitProperties;

static int read_property(sd_bus_message *reply, const char *name, void *userdata) {
        UnitProperties *properties = userdata;
        UnitReading *reading = &properties->reading;
        char text[32];
        int r;

        if (streq(name, "ActiveState"))
                return read_text(reply, reading->active, sizeof(reading->active));
        if (streq(name, "SubState"))
                return read_text(reply, reading->sub, sizeof(reading->sub));
        if (streq(name, "Result"))
                return read_text(reply, reading->result, sizeof(reading->result));
        if (streq(name, "StatusText"))
                return read_text(reply, reading->status, sizeof(reading->status));
        if (streq(name, "BusName"))
                return read_text(reply, reading->bus_name, sizeof(reading->bus_name));
        if (streq(name, "NRestarts"))
                return sd_bus_message_read(reply, "v", "u", &reading->n_restarts);
        if (streq(name, "StateChangeTimestamp"))
                return sd_bus_message_read(reply, "v", "t", &reading->since_usec);
        if (streq(name, "ExecMainStartTimestamp"))
                return sd_bus_message_read(reply, "v", "t", &reading->started_usec);
        if (streq(name, "InvocationID"))
                return read_invocation(reply, reading);
        if (streq(name, "Type")) {
                r = read_text(reply, text, sizeof(text));
                reading->oneshot = r >= 0 && streq(text, "oneshot");
                return r;
        }
        if (streq(name, "LoadState")) {
                r = read_text(reply, text, sizeof(text));
                properties->loaded = r >= 0 && streq(text, "loaded");
                return r;
        }
        return sd_bus_message_skip(reply, "v");
}

static int on_role_changed(sd_bus_message *signal, void *userdata, sd_bus_error *ret_error) {
        (void) request_role_health(userdata);
        return 0;
}

static void take_bus_name(WatchedUnit *unit, const UnitReading *reading) {
        if (isempty(reading->bus_name) || (unit->bus_name && streq(unit->bus_name, reading->bus_name)))
                return;
        free(unit->bus_name);
        unit->bus_name = strdup(reading->bus_name); /* without one, the role is not asked */
        unit->role_changed = sd_bus_slot_unref(unit->role_changed);
        if (!unit->bus_name)
                return;
        int r = sd_bus_match_signal_async(unit->watch->bus, &unit->role_changed, unit->bus_name,
                BUS_ROLE_PATH, PROPERTIES_INTERFACE, "PropertiesChanged", on_role_changed, NULL, unit);
        if (r < 0)
                log_warning_errno(r, "Failed to watch %s: %m", unit->bus_name);
}

static int request_reading(WatchedUnit *unit);

static int on_reading(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        WatchedUnit *unit = userdata;
        UnitProperties properties = {};
        UnitReading *reading = &properties.reading;

        unit->reading = sd_bus_slot_unref(unit->reading);
        if (TAKE_GENERIC(unit->again, false) && request_reading(unit) < 0)
                log_warning("Failed to ask systemd about %s again.", unit->name);
        if (sd_bus_message_is_method_error(reply, NULL))
                return 0; /* unloaded just now: the next list leaves it out */
        snprintf(reading->name, sizeof(reading->name), "%s", unit->name);
        int r = bus_read_properties(reply, read_property, &properties);
        if (r < 0) {
                log_warning_errno(r, "Failed to read what systemd says about %s: %m", unit->name);
                return 0;
        }
        if (!properties.loaded) { /* not installed, or masked */
                unit->watch->report(&(ArbiterEvent){.type = ARBITER_EVENT_GONE, .name = unit->name},
                        unit->watch->userdata);
                return 0;
        }
        take_bus_name(unit, reading);
        unit->watch->report(
                &(ArbiterEvent){.type = ARBITER_EVENT_READING, .reading = reading}, unit->watch->userdata);
        if (streq(reading->active, "active"))
                (void) request_role_health(unit);
        return 0;
}

/* All properties of all its interfaces at once: one consistent reading. */
static int request_reading(WatchedUnit *unit) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;

        if (unit->reading) {
                unit->again = true;
                return 0;
        }
        int r = sd_bus_message_new_method_call(
                unit->watch->bus, &call, MANAGER_NAME, unit->path, PROPERTIES_INTERFACE, "GetAll");
        if (r >= 0)
                r = sd_bus_message_append(call, "s", "");
        if (r < 0)
                return r;
        return sd_bus_call_async(
                unit->watch->bus, &unit->reading, call, on_reading, unit, REPLY_TIMEOUT_USEC);
}

static int on_unit_changed(sd_bus_message *signal, void *userdata, sd_bus_error *ret_error) {
        WatchedUnit *unit = userdata;
        int r = request_reading(unit);
        if (r < 0)
                log_warning_errno(r, "Failed to ask systemd about %s: %m", unit->name);
        return 0;
}

static int watch_unit(UnitWatch *watch, const char *name, WatchedUnit **ret) {
        _cleanup_(watched_unit_freep) WatchedUnit *unit = NULL;

        if (HASH_COUNT(watch->units) >= ARBITER_MAX_UNITS)
                return -ENOBUFS;
        unit = new0(WatchedUnit, 1);
        if (!unit)
                return -ENOMEM;
        unit->watch = watch;
        unit->name = strdup(name);
        if (!unit->name)
                return -ENOMEM;
        int r = sd_bus_path_encode(MANAGER_PATH "/unit", name, &unit->path);
        if (r < 0)
                return r;
        r = sd_bus_match_signal_async(watch->bus, &unit->changed, MANAGER_NAME, unit->path,
                PROPERTIES_INTERFACE, "PropertiesChanged", on_unit_changed, NULL, unit);
        if (r < 0)
                return r;
        HASH_ADD_KEYPTR(hh, watch->units, unit->name, strlen(unit->name), unit);
        if (!HASH_WAS_ADDED(unit))
                return -ENOMEM;
        *ret = TAKE_PTR(unit);
        return 0;
}

/* --- all units --- */

static bool is_ours(const char *name) {
        const char *dot = strrchr(name, '.');
        return startswith(name, "stonechat-") && dot && (streq(dot, ".service") || streq(dot, ".socket"));
}

static int list_unit(UnitWatch *watch, const char *name) {
        WatchedUnit *unit;
        int r;

        HASH_FIND_STR(watch->units, name, unit);
        if (!unit) {
                r = watch_unit(watch, name, &unit);
                if (r < 0)
                        return r;
        }
        unit->listed = true;
        return request_reading(unit);
}

static int take_list(UnitWatch *watch, sd_bus_message *reply) {
        WatchedUnit *unit, *next;
        const char *name;

        HASH_ITER(hh, watch->units, unit, next)
                unit->listed = false;
        int r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        while (r >= 0 && (r = sd_bus_message_read(reply, "(ssssssouso)", &name, NULL, NULL, NULL, NULL, NULL,
                                  NULL, NULL, NULL, NULL)) > 0)
                if (is_ours(name))
                        r = list_unit(watch, name);
        for (size_t i = 0; i < ELEMENTSOF(known_units) && r >= 0; i++)
                r = list_unit(watch, known_units[i]);
        if (r < 0)
                return r;
        HASH_ITER(hh, watch->units, unit, next)
                if (!unit->listed)
                        forget_unit(watch, unit);
        return 0;
}

static int request_list(UnitWatch *watch);

static int on_list(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        UnitWatch *watch = userdata;

        watch->list = sd_bus_slot_unref(watch->list);
        if (sd_bus_message_is_method_error(reply, NULL)) {
                /* A single failure is normal: systemd does not answer while it executes itself again. */
                log_full(watch->n_failures++ == 1 ? LOG_WARNING : LOG_DEBUG, NULL,
                        "systemd does not list the units: %s", sd_bus_message_get_error(reply)->message);
                return 0;
        }
        watch->n_failures = 0;
        int r = take_list(watch, reply);
        if (r < 0)
                log_warning_errno(r, "Failed to read the list of units: %m");
        if (TAKE_GENERIC(watch->list_again, false))
                (void) request_list(watch);
        return 0;
}

static int request_list(UnitWatch *watch) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;

        if (watch->list) {
                watch->list_again = true;
                return 0;
        }
        int r = sd_bus_message_new_method_call(
                watch->bus, &call, MANAGER_NAME, MANAGER_PATH, MANAGER_INTERFACE, "ListUnitsByPatterns");
        if (r >= 0)
                r = sd_bus_message_append(call, "asas", 0, 2, "stonechat-*.service", "stonechat-*.socket");
        if (r < 0)
                return r;
        return sd_bus_call_async(watch->bus, &watch->list, call, on_list, watch, REPLY_TIMEOUT_USEC);
}

static int on_subscribed(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        UnitWatch *watch = userdata;

        watch->subscribe = sd_bus_slot_unref(watch->subscribe);
        /* systemd keeps the subscription when it executes itself again. */
        if (sd_bus_message_is_method_error(reply, NULL) &&
                !sd_bus_message_is_method_error(reply, "org.freedesktop.systemd1.AlreadySubscribed"))
                log_warning("systemd sends no signals, reading every %llu s: %s",
                        WATCH_INTERVAL_USEC / USEC_PER_SEC, sd_bus_message_get_error(reply)->message);
        return 0;
}

/* Subscribes before it asks for the list, so that no change falls in between. */
static int subscribe(UnitWatch *watch) {
        watch->subscribe = sd_bus_slot_unref(watch->subscribe);
        int r = sd_bus_call_method_async(watch->bus, &watch->subscribe, MANAGER_NAME, MANAGER_PATH,
                MANAGER_INTERFACE, "Subscribe", on_subscribed, watch, NULL);
        if (r < 0)
                return r;
        return request_list(watch);
}

/* UnitNew, UnitRemoved, Reloading, UnitFilesChanged. */
static int on_manager_signal(sd_bus_message *signal, void *userdata, sd_bus_error *ret_error) {
        const char *member = sd_bus_message_get_member(signal), *name = NULL;
        UnitWatch *watch = userdata;
        int r;

        if (streq(member, "UnitNew") || streq(member, "UnitRemoved")) {
                r = sd_bus_message_read(signal, "s", &name);
                if (r < 0 || !is_ours(name))
                        return 0;
        } else if (!streq(member, "Reloading"))
                return 0;
        r = request_list(watch);
        if (r < 0)
                log_warning_errno(r, "Failed to ask systemd for its units: %m");
        return 0;
}

static int on_owner_changed(sd_bus_message *signal, void *userdata, sd_bus_error *ret_error) {
        const char *name, *old_owner, *new_owner;
        UnitWatch *watch = userdata;

        int r = sd_bus_message_read(signal, "sss", &name, &old_owner, &new_owner);
        if (r < 0 || isempty(new_owner))
                return 0;
        r = subscribe(watch);
        if (r < 0)
                log_warning_errno(r, "Failed to subscribe to systemd's signals again: %m");
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        UnitWatch *watch = userdata;

        int r = request_list(watch);
        if (r < 0)
                log_warning_errno(r, "Failed to ask systemd for its units: %m");
        return sd_event_source_set_time_relative(source, WATCH_INTERVAL_USEC);
}

static int add_matches(UnitWatch *watch) {
        int r = sd_bus_match_signal_async(watch->bus, &watch->manager_signals, MANAGER_NAME, MANAGER_PATH,
                MANAGER_INTERFACE, NULL, on_manager_signal, NULL, watch);
        if (r < 0)
                return r;
        return sd_bus_add_match_async(watch->bus, &watch->owner_changed,
                "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" MANAGER_NAME
                "'",
                on_owner_changed, NULL, watch);
}

int unit_watch_new(UnitWatch **ret, sd_bus *bus, UnitWatchReport report, void *userdata) {
        _cleanup_(unit_watch_freep) UnitWatch *watch = new0(UnitWatch, 1);
        if (!watch)
                return -ENOMEM;
        watch->bus = sd_bus_ref(bus);
        watch->report = report;
        watch->userdata = userdata;
        int r = add_matches(watch);
        if (r < 0)
                return r;
        r = subscribe(watch);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(sd_bus_get_event(bus), &watch->timer, CLOCK_BOOTTIME,
                WATCH_INTERVAL_USEC, 0, on_timer, watch);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(watch->timer, SD_EVENT_ON);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(watch);
        return 0;
}

UnitWatch *unit_watch_free(UnitWatch *watch) {
        WatchedUnit *unit, *next;

        if (!watch)
                return NULL;
        HASH_ITER(hh, watch->units, unit, next) {
                HASH_DEL(watch->units, unit);
                watched_unit_free(unit);
        }
        sd_event_source_disable_unref(watch->timer);
        sd_bus_slot_unref(watch->manager_signals);
        sd_bus_slot_unref(watch->owner_changed);
        sd_bus_slot_unref(watch->subscribe);
        sd_bus_slot_unref(watch->list);
        sd_bus_unref(watch->bus);
        free(watch);
        return NULL;
}
