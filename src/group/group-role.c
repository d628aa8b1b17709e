/* SPDX-License-Identifier: Apache-2.0 */
#include "group/group-role.h"

#include <stdio.h>

#include "group/attach.h"
#include "group/open.h"
#include "log/message-ids.h"
#include "schema-tables.h"
#include "service/store-role.h"
#include "util/string-util.h"
#include "util/time-util.h"

static const MessageInfo *const records[] = {
        &sc__conversation__info,
        &sc__member__info,
        &sc__message__info,
        NULL,
};

static const IndexInfo *find_index(const RecordInfo *record, const char *name) {
        FOREACH_ARRAY(index, record->indexes, record->n_indexes)
                if (streq(index->name, name))
                        return index;
        return NULL;
}

static int open_store(GroupRole *role, sd_event *event, const char *path) {
        return store_open(&role->store, event,
                &(StoreConfig){
                        .kind = role->conf->store_kind,
                        .path = path,
                        .records = records,
                        .n_readers = (unsigned) role->conf->store_readers,
                        .batch_operations = (unsigned) role->conf->store_batch_operations,
                        .max_queued = (unsigned) role->conf->store_queue,
                });
}

int group_role_new(
        GroupRole **ret, sd_event *event, const Conf *conf, const char *path, const GroupPorts *ports) {
        _cleanup_(group_role_freep) GroupRole *role = new0(GroupRole, 1);
        int r;

        if (!role)
                return -ENOMEM;
        role->ports = *ports;
        role->conf = conf;
        LIST_INIT(&role->opens);
        TAILQ_INIT(&role->attaches_waiting);
        role->members_by_user = find_index(sc__member__info.record, "members_by_user");
        assert_se(role->members_by_user);

        r = online_new(&role->online);
        if (r < 0)
                return r;
        r = open_store(role, event, path);
        if (r < 0)
                return r;
        r = conversations_new(
                &role->conversations, role->store, &role->conf->group_cache_conversations, role);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(role);
        return 0;
}

GroupRole *group_role_free(GroupRole *role) {
        if (!role)
                return NULL;
        /* Closing the store completes all that is in flight; what that would begin anew it refuses. Only
         * opening may get so far that it asks the api role, so that is cancelled last. */
        attaches_cancel(role);
        store_close(role->store);
        opens_cancel(role);
        conversations_free(role->conversations);
        online_free(role->online);
        buffer_done(&role->push_buffer);
        return mfree(role);
}

bool group_role_is_alive(GroupRole *role) {
        return store_is_alive(role->store, GROUP_MAX_STORE_BUSY_USEC);
}

bool group_role_is_healthy(const GroupRole *role) {
        return !role->store_full;
}

const char *group_role_status(GroupRole *role) {
        snprintf(role->status, sizeof role->status,
                "%s%u gateways, %u clients of %u users, %zu conversations in memory",
                role->store_full ? "Disk full, refusing messages; " : "", online_n_gateways(role->online),
                online_n_clients(role->online), online_n_users(role->online),
                conversations_n(role->conversations));
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
        n += store_role_statistics(role->store, ret + n, max - n);
        return n;
}

void group_role_forget_gateway(GroupRole *role, void *gateway) {
        online_forget_gateway(role->online, gateway);
}

/* On a full disk a small write may still succeed now and then: that is no recovery yet. */
static bool is_full_now(GroupRole *role, int r) {
        uint64_t now = boottime_usec();

        if (r == -ENOSPC)
                role->store_full_usec = now;
        else if (r >= 0 && now >= role->store_full_usec + GROUP_STORE_FULL_HOLD_USEC)
                return false;
        return r == -ENOSPC || role->store_full;
}

void group_role_note_write(GroupRole *role, int r) {
        bool full;

        if (r != -ENOSPC && !role->store_full)
                return;
        full = is_full_now(role, r);
        if (full == role->store_full)
                return;
        role->store_full = full;
        if (full)
                log_with((.message_id = MESSAGE_ID_STORE_FULL, .error_number = ENOSPC), LOG_ERR,
                        "No space is left for conversations; messages are refused until there is.");
        else
                log_with((.message_id = MESSAGE_ID_STORE_RECOVERED), LOG_NOTICE,
                        "Conversations can be stored again.");
        role->ports.changed(role->ports.userdata);
}
