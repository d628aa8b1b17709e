/* SPDX-License-Identifier: Apache-2.0 */

/* inbox.join, an intent of the conversation: the user is a member of it now. */

#include "group/conversation/load.h"
#include "group/delivery/fanout.h"
#include "group/delivery/online.h"
#include "group/inbox/inbox.h"
#include "service-handlers.h"

static int store_entry(Call *call, Conversation *inbox, const Sc__InboxJoinRequest *request) {
        Sc__ConversationAdded added = SC__CONVERSATION_ADDED__INIT;
        Sc__InboxEntry entry = SC__INBOX_ENTRY__INIT;
        Sc__InboxSize size = SC__INBOX_SIZE__INIT;
        Sc__Event event = SC__EVENT__INIT;

        added.conversation = entry.conversation = request->conversation;
        added.kind = entry.kind = request->kind;
        added.by = request->by;
        event.what_case = SC__EVENT__WHAT_CONVERSATION_ADDED;
        event.conversation_added = &added;
        entry.inbox = inbox->id;
        entry.added_at = request->joined_at;
        size.inbox = inbox->id;
        size.conversations = 1;
        const StoreChange one_more = {store_field(&sc__inbox_size__info, "conversations"), STORE_INCREMENT};
        StoreItem followers[3] = {
                {STORE_PUT, &sc__inbox_entry__info, &entry.base},
                {STORE_PATCH, &sc__inbox_size__info, &size.base, &one_more, 1},
        };
        return inbox_append(call, inbox, &event, followers, 2);
}

/* The user's connections hear the conversation from now on. May suspend. */
static int attach_user_connections(Call *call, const Sc__InboxJoinRequest *request) {
        _cleanup_conversation_ Conversation *conversation = NULL;
        GroupRole *role = call->role;
        int r;

        r = conversation_open(role, request->conversation, &conversation);
        if (r < 0)
                return r;
        if (r == 0)
                return -EIO; /* It is stored with the intent. */
        r = online_subscribe(role->online, request->user, conversation->id);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        fanout_membership(role, request->user, conversation, &call->trace);
        return 0;
}

int handle_inbox_join(Call *call, const Sc__InboxJoinRequest *request, Sc__InboxJoinResponse *response) {
        _cleanup_conversation_ Conversation *inbox = NULL;

        int r = inbox_open_for_intent(call, request->user, &inbox);
        if (r == 0)
                r = store_entry(call, inbox, request);
        if (r < 0)
                return r;
        return attach_user_connections(call, request);
}
