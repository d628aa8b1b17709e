/* SPDX-License-Identifier: Apache-2.0 */

/* session.kick, conversations.check and group.ping: what other roles ask. */

#include "group/fanout.h"
#include "service-handlers.h"

void handle_session_kick(Call *call, const Sc__SessionKickRequest *request) {
        Sc__SessionKickResponse response = SC__SESSION_KICK_RESPONSE__INIT;

        fanout_kick(call->role, request->user, request->session, &call->trace);
        call_return(call, &response.base);
}

static void on_checked(int r, const char *const *findings, uint64_t pages, void *userdata) {
        Sc__StoreCheckResponse response = SC__STORE_CHECK_RESPONSE__INIT;
        Call *call = userdata;

        if (r < 0)
                return call_fail_errno(call, r, "check the store");
        while (findings[response.n_findings])
                response.n_findings++;
        response.findings = (char **) findings;
        response.ok = response.n_findings == 0;
        response.pages = pages;
        call_return(call, &response.base);
}

void handle_conversations_check(Call *call, const Sc__StoreCheckRequest *request) {
        GroupRole *role = call->role;
        int r;

        r = store_check(role->store, on_checked, call);
        if (r < 0)
                call_fail_errno(call, r, "check the store");
}

void handle_group_ping(Call *call, const Sc__GroupPingRequest *request) {
        static const Sc__GroupPingResponse response = SC__GROUP_PING_RESPONSE__INIT;

        call_return(call, &response.base);
}
