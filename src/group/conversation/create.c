/* SPDX-License-Identifier: Apache-2.0 */
#include "group/conversation/create.h"

#include "group/conversation/load.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* The records, and what points at them. */
typedef struct Creation {
        Sc__Conversation conversation;
        Sc__ConversationHead head;
        Sc__Member members[CREATE_MAX_MEMBERS];
        Sc__InboxJoinRequest joins[CREATE_MAX_MEMBERS];
        char inboxes[CREATE_MAX_MEMBERS][CONVERSATION_ID_SIZE];
        StoreItem followers[CREATE_MAX_MEMBERS + 1];
        StoreIntent intents[CREATE_MAX_MEMBERS];
        size_t n_followers, n_intents;
        char epoch[UUID_TEXT_SIZE];
} Creation;

static void add_member(Creation *creation, const CreateRequest *request, const char *user) {
        Sc__Member *member = &creation->members[creation->n_followers];

        *member = (Sc__Member) SC__MEMBER__INIT;
        member->conversation = creation->conversation.id;
        member->user = (char *) user;
        member->joined_at = creation->conversation.created_at;
        creation->followers[creation->n_followers++] =
                (StoreItem){STORE_PUT, &sc__member__info, &member->base};
}

static void add_head(Creation *creation) {
        creation->head = (Sc__ConversationHead) SC__CONVERSATION_HEAD__INIT;
        creation->head.conversation = creation->conversation.id;
        creation->head.last_at = creation->conversation.created_at;
        creation->followers[creation->n_followers++] =
                (StoreItem){STORE_PUT, &sc__conversation_head__info, &creation->head.base};
}

static void add_intent(Creation *creation, const CreateRequest *request, const char *user) {
        Sc__InboxJoinRequest *join = &creation->joins[creation->n_intents];
        char *inbox = creation->inboxes[creation->n_intents];

        *join = (Sc__InboxJoinRequest) SC__INBOX_JOIN_REQUEST__INIT;
        join->user = (char *) user;
        join->conversation = creation->conversation.id;
        join->kind = request->kind;
        join->by = (char *) request->creator;
        join->joined_at = creation->conversation.created_at;
        personal_conversation_id(user, inbox);
        creation->intents[creation->n_intents++] =
                (StoreIntent){inbox, &method_inbox_join, &join->base, request->trace};
}

static void prepare(Creation *creation, Conversation *conversation, const CreateRequest *request) {
        uuid_v7(creation->epoch);
        creation->conversation = (Sc__Conversation) SC__CONVERSATION__INIT;
        creation->conversation.id = conversation->id;
        creation->conversation.kind = request->kind;
        creation->conversation.epoch = creation->epoch;
        creation->conversation.creator = (char *) strempty(request->creator);
        creation->conversation.created_at = unix_msec();
        for (size_t i = 0; i < request->n_members; i++)
                add_member(creation, request, request->members[i]);
        if (is_personal_id(conversation->id))
                return;
        add_head(creation);
        for (size_t i = 0; i < request->n_members; i++)
                add_intent(creation, request, request->members[i]);
}

int conversation_create(
        Conversation *conversation, const CreateRequest *request, uint64_t *ret_last_intent) {
        GroupRole *role = conversation->role;
        Creation creation = {};
        StoreWritten written;
        int r;

        prepare(&creation, conversation, request);
        r = intents_write(role->intents, role->store,
                &(StoreWrite){
                        .partition = conversation->id,
                        .guard = {STORE_INSERT, &sc__conversation__info, &creation.conversation.base},
                        .followers = creation.followers,
                        .n_followers = creation.n_followers,
                        .intents = creation.intents,
                        .n_intents = creation.n_intents,
                },
                &written);
        group_role_note_write(role, r);
        *ret_last_intent = r >= 0 ? written.last_intent : 0;
        if (r >= 0) {
                conversation_set_created(conversation, &creation.conversation);
                return 1;
        }
        if (r != -EEXIST)
                return r;
        r = conversation_load(conversation);
        return r == 0 ? -EIO : MIN(r, 0);
}
