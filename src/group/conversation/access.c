/* SPDX-License-Identifier: Apache-2.0 */
#include "group/conversation/access.h"

#include "group/conversation/load.h"
#include "schema-tables.h"
#include "util/string-util.h"

#define MEMBER_ARENA_LIMIT (64U << 10)

static int read_member(Conversation *conversation, const char *user) {
        _cleanup_arena_ Arena arena;
        Sc__Member key = SC__MEMBER__INIT, *record;

        arena_init(&arena, MEMBER_ARENA_LIMIT);
        key.conversation = conversation->id;
        key.user = (char *) user;
        int r = store_get(conversation->role->store, &arena, &sc__member__info, &key.base, &record);
        if (r <= 0)
                return r;
        return conversation_note_member(conversation, record) ? 1 : -ENOMEM;
}

int check_member(Conversation *conversation, const char *user) {
        int r = conversation_load(conversation);
        if (r <= 0)
                return r;
        if (conversation_find_member(conversation, user))
                return 1;
        return read_member(conversation, user);
}

int access_conversation(Call *call, const char *id, Conversation **ret) {
        GroupRole *role = call->role;
        _cleanup_conversation_ Conversation *conversation = NULL;

        if (isempty(call->caller.user))
                return call_refuse(call, ERROR_UNAUTHENTICATED, "this needs a user");
        conversation = conversations_get(role->conversations, id);
        if (!conversation)
                return -ENOMEM;
        int r = check_member(conversation, call->caller.user);
        if (r < 0)
                return r;
        if (r == 0)
                return call_refuse(call, ERROR_NOT_A_MEMBER, "conversation");
        *ret = TAKE_PTR(conversation);
        return 0;
}
