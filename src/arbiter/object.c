/* SPDX-License-Identifier: Apache-2.0 */
#include "arbiter/object.h"

#include "log/log.h"
#include "util/id.h"

static int get_host(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const ArbiterView *view = userdata;
        return sd_bus_message_append(reply, "s", view->host);
}

static int get_host_name(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const ArbiterView *view = userdata;
        return sd_bus_message_append(reply, "s", view->host_name);
}

static int get_healthy(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const ArbiterView *view = userdata;
        return sd_bus_message_append(reply, "b", (int) view->state->healthy);
}

static int get_units(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const ArbiterView *view = userdata;

        int r = sd_bus_message_open_container(reply, 'a', "(ssssustbss)");
        for (const UnitHealth *unit = view->state->units; unit && r >= 0; unit = unit->hh.next) {
                const UnitReading *reading = &unit->reading;
                r = sd_bus_message_append(reply, "(ssssustbss)", reading->name, reading->active,
                        reading->sub, reading->result, reading->n_restarts, reading->invocation,
                        reading->since_usec, (int) unit->healthy, reading->status, unit->reason);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* One host: all shards are here. */
static int get_routes(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const ArbiterView *view = userdata;
        return sd_bus_message_append(reply, "a(uusts)", 1, 0, SHARDS_DEFAULT - 1, view->host,
                view->state->epoch, view->group_address);
}

static const sd_bus_vtable arbiter_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Host", "s", get_host, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("HostName", "s", get_host_name, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Healthy", "b", get_healthy, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Units", "a(ssssustbss)", get_units, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Routes", "a(uusts)", get_routes, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

int arbiter_object_export(sd_bus *bus, const ArbiterView *view, sd_bus_slot **ret_slot) {
        return sd_bus_add_object_vtable(
                bus, ret_slot, ARBITER_PATH, ARBITER_INTERFACE, arbiter_vtable, (void *) view);
}

void arbiter_object_changed(sd_bus *bus, const ArbiterActions *actions) {
        const char *names[4];
        size_t n = 0;

        if (actions->publish_health)
                names[n++] = "Healthy";
        if (actions->publish_units)
                names[n++] = "Units";
        if (actions->publish_routes)
                names[n++] = "Routes";
        names[n] = NULL;
        if (n == 0 || sd_bus_is_open(bus) <= 0)
                return;
        int r = sd_bus_emit_properties_changed_strv(bus, ARBITER_PATH, ARBITER_INTERFACE, (char **) names);
        if (r < 0)
                log_warning_errno(r, "Failed to signal a change: %m");
}
