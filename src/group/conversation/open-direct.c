/* SPDX-License-Identifier: Apache-2.0 */

/* conversation.open_direct. The direct conversation of two users has an id that follows from theirs, so
 * whoever opens it finds the same one. With oneself it is a place for notes: one member. */

#include "group/conversation/create.h"
#include "group/conversation/load.h"
#include "group/conversation/view.h"
#include "schema-tables.h"
#include "service-handlers.h"
#include "util/string-util.h"

#define DELIVERY_WAIT_USEC (1000 * 1000ULL) /* so that who opened it finds it in his list at once */

/* Asks the inbox of `user`, on his shard. The caller's comes first, so that whoever has opened too many takes no
 * room in anybody else's. */
static int admit(Call *call, const char *conversation, const char *user, const char *awaits, bool received) {
        Sc__InboxAdmitRequest request = SC__INBOX_ADMIT_REQUEST__INIT;
        Sc__InboxAdmitResponse *response;

        request.user = (char *) user;
        request.conversation = (char *) conversation;
        request.awaits = (char *) strempty(awaits);
        request.received = received;
        return call_ask(call, &method_inbox_admit, &request.base, &response);
}

static int create_direct(Call *call, Conversation *conversation, const char *other) {
        GroupRole *role = call->role;
        const char *caller = call->caller.user;
        bool alone = streq(caller, other);
        uint64_t last_intent;

        int r = alone ? 0 : role->ports.check_user(call, other, role->ports.userdata);
        if (r >= 0)
                r = admit(call, conversation->id, caller, alone ? NULL : other, false);
        if (r >= 0 && !alone)
                r = admit(call, conversation->id, other, other, true);
        if (r < 0)
                return r;
        r = conversation_create(conversation,
                &(CreateRequest){
                        .kind = SC__CONVERSATION_KIND__CONVERSATION_KIND_DIRECT,
                        .creator = caller,
                        .members = {caller, other},
                        .n_members = alone ? 1 : 2,
                        .trace = &call->trace,
                },
                &last_intent);
        if (r <= 0)
                return r;
        r = intents_deliver(role->intents, conversation->id, last_intent, DELIVERY_WAIT_USEC);
        return r == -ETIME ? 0 : r;
}

int handle_conversation_open_direct(
        Call *call, const Sc__OpenDirectRequest *request, Sc__ConversationView *response) {
        _cleanup_conversation_ Conversation *conversation = NULL;
        char id[UUID_TEXT_SIZE];

        if (isempty(call->caller.user))
                return call_refuse(call, ERROR_UNAUTHENTICATED, "this needs a user");
        uuid_of_direct(call->caller.user, request->user, id);
        int r = conversation_open(call->role, id, &conversation);
        if (r == 0)
                r = create_direct(call, conversation, request->user);
        if (r < 0)
                return r;
        return conversation_view(call, conversation, response);
}
