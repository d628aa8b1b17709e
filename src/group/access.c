/* SPDX-License-Identifier: Apache-2.0 */
#include "group/access.h"

#include "schema-tables.h"
#include "util/string-util.h"

typedef struct AccessCheck {
        Call *call; /* in whose arena this is */
        Conversation *conversation; /* pinned */
        AccessGranted granted;
} AccessCheck;

static void refuse(AccessCheck *access, Sc__ErrorCode code, const char *detail) {
        conversation_unpin(access->conversation);
        call_fail(access->call, code, "%s", detail);
}

static void fail(AccessCheck *access, int r, const char *what) {
        conversation_unpin(access->conversation);
        call_fail_errno(access->call, r, what);
}

static void on_member(int r, const StoreRows *rows, size_t n, void *userdata) {
        AccessCheck *access = userdata;
        const Member *member;

        if (r < 0)
                return fail(access, r, "read a member");
        if (rows[0].n == 0)
                return refuse(access, ERROR_NOT_A_MEMBER, "conversation");
        member = conversation_note_member(access->conversation, (const Sc__Member *) rows[0].records[0]);
        if (!member)
                return fail(access, -ENOMEM, "note a member");
        access->granted(access->call, access->conversation, member);
}

static void check_member(AccessCheck *access) {
        Conversation *conversation = access->conversation;
        const char *user = access->call->caller.user;
        GroupRole *role = access->call->role;
        Sc__Member key = SC__MEMBER__INIT;
        const Member *member;
        int r;

        if (conversation->state != CONVERSATION_LOADED)
                return refuse(access, ERROR_NOT_A_MEMBER, "conversation");
        member = conversation_find_member(conversation, user);
        if (member)
                return access->granted(access->call, conversation, member);

        key.conversation = conversation->id;
        key.user = (char *) user;
        r = store_get(role->store, &sc__member__info, &key.base, on_member, access);
        if (r < 0)
                fail(access, r, "read a member");
}

static void on_loaded(int r, void *userdata) {
        AccessCheck *access = userdata;

        if (r < 0)
                return fail(access, r, "load a conversation");
        check_member(access);
}

static void begin(AccessCheck *access) {
        GroupRole *role = access->call->role;
        int r;

        r = conversations_load(role->conversations, &access->conversation, 1, on_loaded, access);
        if (r < 0)
                return fail(access, r, "load a conversation");
        if (r > 0)
                check_member(access);
}

void access_conversation(Call *call, const char *id, AccessGranted granted) {
        GroupRole *role = call->role;
        _cleanup_conversation_ Conversation *conversation = NULL;
        const Member *member;
        AccessCheck *access;

        if (isempty(call->caller.user))
                return call_fail(call, ERROR_UNAUTHENTICATED, "%s", "this needs a user");
        conversation = conversations_get(role->conversations, id);
        if (!conversation)
                return call_fail_errno(call, -ENOMEM, "load a conversation");

        /* The usual case costs two look-ups and no memory. */
        member = conversation->state == CONVERSATION_LOADED
                         ? conversation_find_member(conversation, call->caller.user)
                         : NULL;
        if (member)
                return granted(call, TAKE_PTR(conversation), member);

        access = arena_new(&call->arena, AccessCheck, 1);
        if (!access)
                return call_fail_errno(call, -ENOMEM, "load a conversation");
        *access = (AccessCheck){.call = call, .conversation = TAKE_PTR(conversation), .granted = granted};
        begin(access);
}
