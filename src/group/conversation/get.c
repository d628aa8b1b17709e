/* SPDX-License-Identifier: Apache-2.0 */

/* conversation.get. */

#include "group/conversation/access.h"
#include "group/conversation/view.h"
#include "service-handlers.h"

int handle_conversation_get(
        Call *call, const Sc__ConversationGetRequest *request, Sc__ConversationView *response) {
        _cleanup_conversation_ Conversation *conversation = NULL;

        int r = access_conversation(call, request->conversation, &conversation);
        if (r < 0)
                return r;
        return conversation_view(call, conversation, response);
}
