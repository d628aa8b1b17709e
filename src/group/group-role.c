/* SPDX-License-Identifier: Apache-2.0 */
#include "group/group-role.h"

#include <stdio.h>

#include "group/conversation/conversation.h"
#include "group/conversation/flush.h"
#include "group/delivery/online.h"
#include "group/gateway/attach.h"
#include "schema-tables.h"
#include "service/store-role.h"

const MessageInfo *const group_records[] = {
        &sc__conversation__info,
        &sc__conversation_head__info,
        &sc__member__info,
        &sc__inbox_entry__info,
        &sc__unanswered__info,
        &sc__inbox_size__info,
        &sc__ended_session__info,
        &sc__message__info,
        STORE_ROLE_RECORDS,
        NULL,
};

static int make_parts(GroupRole *role, Dispatcher *dispatcher) {
        const StoreRoomConfig room = {
                .full = "No space is left for conversations; messages are refused until there is.",
                .recovered = "Conversations can be stored again.",
                .changed = role->ports.changed,
                .userdata = role->ports.userdata,
        };
        int r;

        r = online_new(&role->online);
        if (r < 0)
                return r;
        r = conversations_new(&role->conversations, role);
        if (r < 0)
                return r;
        r = cursor_flush_new(&role->flush, role);
        if (r < 0)
                return r;
        r = attach_queue_new(&role->attaches);
        if (r < 0)
                return r;
        r = store_room_new(&role->room, role->event, role->fibers, role->store, &room);
        if (r < 0)
                return r;
        return intents_new(&role->intents, role->event, role->fibers, role->store, dispatcher);
}

int group_role_new(GroupRole **ret, sd_event *event, const Conf *conf, Store *store, Dispatcher *dispatcher,
        const GroupPorts *ports) {
        GroupRole *role = new0(GroupRole, 1);

        if (!role)
                return -ENOMEM;
        *role = (GroupRole){
                .ports = *ports,
                .conf = conf,
                .event = sd_event_ref(event),
                .fibers = dispatcher_fibers(dispatcher),
                .store = store,
        };
        int r = make_parts(role, dispatcher);
        if (r < 0) {
                role->store = NULL;
                group_role_free(role);
                return r;
        }
        *ret = role;
        return 0;
}

GroupRole *group_role_free(GroupRole *role) {
        if (!role)
                return NULL;
        if (role->intents)
                intents_stop(role->intents);
        if (role->flush)
                cursor_flush_all(role->flush);
        store_room_stop(role->room);
        /* Closing the store completes all that is in flight, and so ends the fibers that waited for a write;
         * what those would begin anew it refuses. */
        store_close(role->store);
        store_room_free(role->room);
        intents_free(role->intents);
        attach_queue_free(role->attaches);
        cursor_flush_free(role->flush);
        conversations_free(role->conversations);
        online_free(role->online);
        buffer_done(&role->push_buffer);
        sd_event_unref(role->event);
        return mfree(role);
}

bool group_role_is_alive(GroupRole *role) {
        return store_is_alive(role->store, GROUP_MAX_STORE_BUSY_USEC);
}

bool group_role_is_healthy(const GroupRole *role) {
        return !store_room_is_full(role->room) && store_is_connected(role->store);
}

const char *group_role_status(GroupRole *role) {
        const char *trouble = store_room_is_full(role->room)     ? "Disk full, refusing messages; "
                              : !store_is_connected(role->store) ? "Store not reachable; "
                                                                 : "";

        snprintf(role->status, sizeof(role->status),
                "%s%u gateways, %u clients of %u users, %zu conversations in memory", trouble,
                online_n_gateways(role->online), online_n_clients(role->online),
                online_n_users(role->online), conversations_n(role->conversations));
        return role->status;
}

size_t group_role_statistics(GroupRole *role, BusStatistic *ret, size_t max) {
        size_t n = 0;

        const BusStatistic all[] = {
                {"conversations", conversations_n(role->conversations)},
                {"messages", role->n_appended},
                {"deliveries", role->n_deliveries},
                {"clients", online_n_clients(role->online)},
                {"users", online_n_users(role->online)},
                {"gateways", online_n_gateways(role->online)},
                {"pending_bytes", role->pending_bytes},
        };
        for (; n < MIN(max, ELEMENTSOF(all)); n++)
                ret[n] = all[n];
        n += intents_statistics(role->intents, ret + n, max - n);
        n += store_role_statistics(role->store, ret + n, max - n);
        return n;
}

void group_role_forget_gateway(GroupRole *role, void *gateway) {
        attach_queue_forget_gateway(role, gateway);
        online_forget_gateway(role->online, gateway);
}
