/* SPDX-License-Identifier: Apache-2.0 */

/* stonechat-arbiter: watches the units (watch.h), decides which are healthy (health.h), and publishes that
 * (object.h). */

#include <stdio.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "arbiter/health.h"
#include "arbiter/object.h"
#include "arbiter/watch.h"
#include "log/log.h"
#include "log/message-ids.h"
#include "service/role.h"
#include "util/string-util.h"

/* For sd_id128_get_machine_app_specific(). Never changes, as the result names hosts in stored data. */
#define HOST_APPLICATION_ID SD_ID128_MAKE(28, d4, 57, d8, d2, 10, 40, 28, b1, 5f, cb, 41, c6, 42, b5, df)

typedef struct Arbiter {
        RoleProcess *process;
        ArbiterState state;
        ArbiterView view;
        char host[SD_ID128_STRING_MAX], host_name[HOST_NAME_MAX + 1], status[320];
        char *group_address;
        UnitWatch *watch;
        sd_bus_slot *object;
        sd_event_source *wakeup, *publish;
        ArbiterActions unpublished; /* gathered in this turn of the loop */
} Arbiter;

static void log_health_change(const UnitHealth *unit, const Arbiter *arbiter) {
        if (unit->healthy)
                log_with((.message_id = MESSAGE_ID_UNIT_HEALTHY, .unit = unit->reading.name,
                                 .host = arbiter->host),
                        LOG_NOTICE, "%s is healthy again.", unit->reading.name);
        else
                log_with((.message_id = MESSAGE_ID_UNIT_UNHEALTHY, .unit = unit->reading.name,
                                 .host = arbiter->host),
                        LOG_WARNING, "%s is not healthy: %s.", unit->reading.name, unit->reason);
}

static void update_status(Arbiter *arbiter) {
        const UnitHealth *first = NULL;
        unsigned n_bad = 0;

        for (const UnitHealth *unit = arbiter->state.units; unit; unit = unit->hh.next)
                if (!unit->healthy && n_bad++ == 0)
                        first = unit;
        if (first)
                snprintf(arbiter->status, sizeof(arbiter->status),
                        "%u of %u units not healthy: %.60s: %.120s", n_bad, HASH_COUNT(arbiter->state.units),
                        first->reading.name, first->reason);
        else
                snprintf(arbiter->status, sizeof(arbiter->status), "Watching %u units%s",
                        HASH_COUNT(arbiter->state.units),
                        arbiter->state.healthy ? ", all healthy" : "; there is no group role on this host");
}

static void apply_actions(Arbiter *arbiter, const ArbiterActions *actions) {
        FOREACH_ARRAY(unit, actions->changed, actions->n_changed)
                log_health_change(*unit, arbiter);
        if (actions->publish_routes)
                log_info("The group role serves all shards in epoch %" PRIu64 ".", arbiter->state.epoch);
        arbiter->unpublished.publish_units |= actions->publish_units;
        arbiter->unpublished.publish_health |= actions->publish_health;
        arbiter->unpublished.publish_routes |= actions->publish_routes;
        if (actions->publish_units || actions->publish_health || actions->publish_routes)
                (void) sd_event_source_set_enabled(arbiter->publish, SD_EVENT_ONESHOT);
        (void) sd_event_source_set_time(arbiter->wakeup, actions->wake_at);
        (void) sd_event_source_set_enabled(arbiter->wakeup, SD_EVENT_ONESHOT);
}

static void on_event(const ArbiterEvent *event, void *userdata) {
        Arbiter *arbiter = userdata;
        ArbiterActions actions;

        int r = arbiter_step(&arbiter->state, event, boottime_usec(), &actions);
        if (r < 0)
                log_warning_errno(r, "Failed to take note of a unit: %m");
        else
                apply_actions(arbiter, &actions);
}

static int on_wakeup(sd_event_source *source, uint64_t usec, void *userdata) {
        on_event(&(ArbiterEvent){.type = ARBITER_EVENT_TICK}, userdata);
        return 0;
}

static int on_publish(sd_event_source *source, void *userdata) {
        Arbiter *arbiter = userdata;

        update_status(arbiter);
        arbiter_object_changed(arbiter->process->bus, &arbiter->unpublished);
        arbiter->unpublished = (ArbiterActions){};
        role_process_changed(arbiter->process);
        return 0;
}

static int name_host(Arbiter *arbiter) {
        const char *directory = getenv("STONECHAT_RUNTIME_DIRECTORY") ?: ROUTES_DIRECTORY;
        sd_id128_t id;

        if (gethostname(arbiter->host_name, sizeof(arbiter->host_name)) < 0)
                return -errno;
        arbiter->host_name[sizeof(arbiter->host_name) - 1] = 0;
        int r = sd_id128_get_machine_app_specific(HOST_APPLICATION_ID, &id);
        if (r < 0)
                return log_error_errno(r, "Failed to read the machine's id, see machine-id(5): %m");
        sd_id128_to_string(id, arbiter->host);
        arbiter->group_address = format_string("%s/group/rpc.sock", directory);
        if (!arbiter->group_address)
                return -ENOMEM;
        arbiter->view = (ArbiterView){
                .state = &arbiter->state,
                .host = arbiter->host,
                .host_name = arbiter->host_name,
                .group_address = arbiter->group_address,
        };
        return 0;
}

static int add_sources(Arbiter *arbiter) {
        int r = sd_event_add_time(arbiter->process->event, &arbiter->wakeup, CLOCK_BOOTTIME, USEC_INFINITY,
                10 * USEC_PER_MSEC, on_wakeup, arbiter);
        if (r < 0)
                return r;
        r = sd_event_add_defer(arbiter->process->event, &arbiter->publish, on_publish, arbiter);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(arbiter->publish, SD_EVENT_OFF);
}

static int watch_and_publish(Arbiter *arbiter) {
        sd_bus *bus = arbiter->process->bus;

        if (!bus) {
                log_warning("There is no system bus: no unit is watched, nothing is published.");
                snprintf(arbiter->status, sizeof(arbiter->status), "No system bus, nothing to watch");
                return 0;
        }
        int r = arbiter_object_export(bus, &arbiter->view, &arbiter->object);
        if (r < 0)
                return r;
        return unit_watch_new(&arbiter->watch, bus, on_event, arbiter);
}

static void arbiter_stop(void *role) {
        Arbiter *arbiter = role;

        unit_watch_free(arbiter->watch);
        sd_bus_slot_unref(arbiter->object);
        sd_event_source_disable_unref(arbiter->wakeup);
        sd_event_source_disable_unref(arbiter->publish);
        arbiter_state_done(&arbiter->state);
        free(arbiter->group_address);
        free(arbiter);
}

static int arbiter_start(RoleProcess *process, void **ret) {
        Arbiter *arbiter = new0(Arbiter, 1);
        if (!arbiter)
                return -ENOMEM;
        arbiter->process = process;
        strcpy(arbiter->status, "Looking around");
        int r = name_host(arbiter);
        if (r >= 0)
                r = add_sources(arbiter);
        if (r >= 0)
                r = watch_and_publish(arbiter);
        if (r < 0) {
                arbiter_stop(arbiter);
                return r;
        }
        *ret = arbiter;
        return 0;
}

static const char *arbiter_status(void *role) {
        const Arbiter *arbiter = role;
        return arbiter->status;
}

static size_t arbiter_statistics(BusStatistic *ret, size_t max, void *role) {
        const Arbiter *arbiter = role;
        uint64_t n_healthy = 0;

        for (const UnitHealth *unit = arbiter->state.units; unit; unit = unit->hh.next)
                n_healthy += unit->healthy;
        if (max < 2)
                return 0;
        ret[0] = (BusStatistic){"units", HASH_COUNT(arbiter->state.units)};
        ret[1] = (BusStatistic){"units_healthy", n_healthy};
        return 2;
}

static const RoleHooks hooks = {
        .name = "arbiter",
        .bus_name = "org.stonechat.Arbiter",
        .description = "Watches the health of this host's Stonechat units and publishes it and the routes.",
        .start = arbiter_start,
        .stop = arbiter_stop,
        .status = arbiter_status,
        .statistics = arbiter_statistics,
};

int main(int argc, char *argv[]) {
        return role_main(argc, argv, &hooks);
}
