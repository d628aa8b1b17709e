/* SPDX-License-Identifier: Apache-2.0 */
#include "api/session/session.h"
#include "service-handlers.h"
#include "util/time-util.h"

#define DELIVERY_USEC (1 * USEC_PER_SEC)

int handle_auth_logout(
        Call *call, _unused_ const Sc__LogoutRequest *request, _unused_ Sc__LogoutResponse *response) {
        Api *api = call->role;
        StoreWritten ended;

        int r = session_end(call, call->caller.user, call->caller.session, &ended);
        if (r == -ENOENT) /* that is what was asked for */
                return 0;
        if (r < 0)
                return r;
        log_trace(&call->trace, (.method = call->method->name, .user = call->caller.user), "Signed out");
        /* So that the session's connections are closed when the answer comes. When that takes longer, they
         * are closed later. */
        (void) intents_deliver(api->intents, call->caller.user, ended.last_intent, DELIVERY_USEC);
        return 0;
}
