/* SPDX-License-Identifier: Apache-2.0 */

/* session.kick, conversations.check and group.ping: what other roles ask. */

#include "group/fanout.h"
#include "service-handlers.h"
#include "service/store-role.h"

void handle_session_kick(Call *call, const Sc__SessionKickRequest *request) {
        Sc__SessionKickResponse response = SC__SESSION_KICK_RESPONSE__INIT;

        fanout_kick(call->role, request->user, request->session, &call->trace);
        call_return(call, &response.base);
}

void handle_conversations_check(Call *call, const Sc__StoreCheckRequest *request) {
        GroupRole *role = call->role;

        call_check_store(call, role->store);
}

void handle_group_ping(Call *call, const Sc__GroupPingRequest *request) {
        static const Sc__GroupPingResponse response = SC__GROUP_PING_RESPONSE__INIT;

        call_return(call, &response.base);
}
