/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The life of the group role: made of a store, and of what its domains keep in memory. */

#include "bus/bus.h"
#include "group/role-state.h"

#define GROUP_MAX_STORE_BUSY_USEC (10 * 1000 * 1000ULL) /* one operation; then the store counts as stuck */

/* What the store holds: StoreConfig.records. */
extern const MessageInfo *const group_records[];

/* Takes the store, when it succeeds. Calls run on the dispatcher's fibers. */
int group_role_new(GroupRole **ret, sd_event *event, const Conf *conf, Store *store, Dispatcher *dispatcher,
        const GroupPorts *ports);
/* Commits what is queued; whoever waits is answered. After dispatcher_stop_calls(), so that the fibers
 * that wait for anything but a write have ended. */
GroupRole *group_role_free(GroupRole *role);
DEFINE_CLEANUP(GroupRole *, group_role_free);

bool group_role_is_alive(GroupRole *role);
bool group_role_is_healthy(const GroupRole *role);
/* Valid until the next call. */
const char *group_role_status(GroupRole *role);
size_t group_role_statistics(GroupRole *role, BusStatistic *ret, size_t max);
void group_role_forget_gateway(GroupRole *role, void *gateway);
