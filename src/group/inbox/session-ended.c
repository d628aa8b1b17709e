/* SPDX-License-Identifier: Apache-2.0 */

/* inbox.session_ended, an intent of the account: the session's connections close, and none opens while an
 * access token of it may be in use. */

#include "group/delivery/fanout.h"
#include "group/inbox/inbox.h"
#include "service-handlers.h"
#include "util/time-util.h"

#define MAX_EXPIRED 32U /* forgotten with one entry */

/* Deletes of those whose access tokens have expired. May suspend. */
static int find_expired(Call *call, Conversation *inbox, StoreItem *ret, size_t *ret_n) {
        Sc__EndedSession from = SC__ENDED_SESSION__INIT;
        GroupRole *role = call->role;
        int64_t now = unix_msec();
        StoreRows *rows;
        size_t n = 0;

        from.inbox = inbox->id;
        int r = store_read(role->store, &call->arena,
                &(StoreRead){.info = &sc__ended_session__info,
                        .from = &from.base,
                        .n_prefix = 1,
                        .limit = MAX_EXPIRED},
                1, &rows);
        if (r < 0)
                return r;
        for (size_t i = 0; i < rows->n; i++)
                if (((const Sc__EndedSession *) rows->records[i])->expires_at < now)
                        ret[n++] = (StoreItem){STORE_DELETE, &sc__ended_session__info, rows->records[i]};
        *ret_n = n;
        return 0;
}

static int store_end(Call *call, Conversation *inbox, const Sc__InboxSessionEndedRequest *request) {
        Sc__EndedSession record = SC__ENDED_SESSION__INIT;
        Sc__SessionEnded ended = SC__SESSION_ENDED__INIT;
        Sc__Event event = SC__EVENT__INIT;
        StoreItem followers[MAX_EXPIRED + 2];
        size_t n;

        int r = find_expired(call, inbox, followers, &n);
        if (r < 0)
                return r;
        ended.session = record.session = request->session;
        event.what_case = SC__EVENT__WHAT_SESSION_ENDED;
        event.session_ended = &ended;
        record.inbox = inbox->id;
        record.expires_at = request->expires_at;
        followers[n++] = (StoreItem){STORE_PUT, &sc__ended_session__info, &record.base};
        return inbox_append(call, inbox, &event, followers, n);
}

int handle_inbox_session_ended(
        Call *call, const Sc__InboxSessionEndedRequest *request, Sc__InboxSessionEndedResponse *response) {
        _cleanup_conversation_ Conversation *inbox = NULL;

        int r = inbox_open_for_intent(call, request->user, &inbox);
        if (r == 0)
                r = store_end(call, inbox, request);
        if (r < 0)
                return r;
        fanout_kick(call->role, request->user, request->session, &call->trace);
        return 0;
}
