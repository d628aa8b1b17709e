/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Conversations as one member sees them: last message, read cursor, number of unread messages. What is in
 * memory here is fresher than what is stored, and wins. May suspend. */

#include "group/conversation/conversation.h"
#include "stonechat/v1/conversations.pb-c.h"

typedef struct ViewSource {
        const char *conversation;
        Sc__ConversationKind kind;
} ViewSource;

/* As the caller sees them, with one submission; NULL in the place of those that do not exist. Memory is the
 * call's. */
int views_read(Call *call, const ViewSource *sources, size_t n, Sc__ConversationView ***ret);

/* One of them as the response; the conversation is loaded. */
int conversation_view(Call *call, const Conversation *conversation, Sc__ConversationView *response);

/* A view of the caller's that was made before the conversation was loaded: what its log told is newer. */
void view_update(const Call *call, Sc__ConversationView *view, const Conversation *loaded);
