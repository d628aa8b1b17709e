/* SPDX-License-Identifier: Apache-2.0 */

/* group.ping, conversations.check and conversations.retry_intents: what other roles and jobs ask. */

#include "group/role-state.h"
#include "service-handlers.h"
#include "service/store-role.h"

int handle_group_ping(Call *call, const Sc__GroupPingRequest *request, Sc__GroupPingResponse *response) {
        const GroupRole *role = call->role;

        response->store_full = store_room_is_full(role->room);
        return 0;
}

int handle_conversations_check(
        Call *call, const Sc__StoreCheckRequest *request, Sc__StoreCheckResponse *response) {
        GroupRole *role = call->role;

        return store_role_check(call, role->store, response);
}

int handle_conversations_retry_intents(
        Call *call, const Sc__RetryIntentsRequest *request, Sc__RetryIntentsResponse *response) {
        GroupRole *role = call->role;

        return intents_retry_parked(role->intents, &response->retried);
}
