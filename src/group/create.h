/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Creating a conversation with its first members. Safe to run again, and side by side with another that
 * creates the same one: all find the one that was first. */

#include "group/group-role.h"

#define CREATE_MAX_MEMBERS 2U

typedef struct Create Create;
struct Create {
        /* Filled in by the caller, who keeps it all alive until done(): */
        Conversation *conversation; /* pinned */
        Sc__ConversationKind kind;
        const char *creator;
        const char *members[CREATE_MAX_MEMBERS];
        size_t n_members;
        /* r: 0 and the conversation is loaded, or the store's error. Called from the loop. */
        void (*done)(Create *create, int r);

        bool created; /* the conversation's record is ours: nobody had it before */

        /* private */
        Sc__Conversation record;
        Sc__Member member_records[CREATE_MAX_MEMBERS];
        StoreWrite writes[1 + CREATE_MAX_MEMBERS];
        size_t n_writes;
        char epoch[UUID_TEXT_SIZE];
};

/* Negative: not begun, done will not be called. */
int create_conversation(Create *create);
