/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Creating a conversation with its members, in one write. Safe to run again, and side by side with another
 * that creates the same one: all find the one that was first. */

#include "group/conversation/conversation.h"

#define CREATE_MAX_MEMBERS 2U

typedef struct CreateRequest {
        Sc__ConversationKind kind;
        const char *creator;
        const char *members[CREATE_MAX_MEMBERS];
        size_t n_members;
        const Trace *trace;
} CreateRequest;

/* 1: it is ours; 0: somebody was first; either way it is loaded then. It must be pinned. For any but a
 * personal conversation each member's inbox is told by an intent: *ret_last_intent, 0 if there is none, is
 * for intents_deliver(). May suspend. */
int conversation_create(Conversation *conversation, const CreateRequest *request, uint64_t *ret_last_intent);
