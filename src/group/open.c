/* SPDX-License-Identifier: Apache-2.0 */
#include "group/open.h"

#include <stdio.h>

#include "group/access.h"
#include "group/event.h"
#include "group/fanout.h"
#include "group/view.h"
#include "schema-tables.h"
#include "service-handlers.h"
#include "util/string-util.h"

/* The direct conversation of two users has an id that follows from theirs, so whoever opens it finds the
 * same one. With oneself it is a place for notes: one member.
 *
 * Phases: is it there, with all its members? Else: is there such a user? Create it. Tell those online. Then
 * the caller sees it like any other conversation. */
struct Open {
        GroupRole *role; /* NULL: cancelled, and the call is gone */
        Call *call;
        Conversation *conversation; /* pinned */
        Create create;
        const char *other; /* in the request */
        bool waiting; /* for the api role: linked */
        LIST_ENTRY(Open) entry;
};

static Open *open_free(Open *open) {
        if (!open)
                return NULL;
        if (open->waiting)
                LIST_REMOVE(open, entry);
        conversation_unpin(open->conversation);
        return mfree(open);
}

static void open_fail(Open *open, int r) {
        Call *call = open->call;

        open_free(open);
        call_fail_errno(call, r, "open a conversation");
}

void opens_cancel(GroupRole *role) {
        Open *open;

        while ((open = LIST_FIRST(&role->opens))) {
                Call *call = open->call;

                LIST_REMOVE(open, entry);
                open->waiting = false;
                open->conversation = conversation_unpin(open->conversation);
                open->role = NULL;
                open->call = NULL;
                call_fail(call, ERROR_UNAVAILABLE, "%s", "the server is stopping");
        }
}

static void view_granted(Call *call, Conversation *conversation, const Member *member) {
        view_return(call, conversation, member->read_seq);
}

static void open_return(Open *open) {
        /* The pin keeps it loaded while access takes one of its own. */
        _cleanup_conversation_ Conversation *conversation = TAKE_PTR(open->conversation);
        Call *call = open->call;

        open_free(open);
        access_conversation(call, conversation->id, view_granted);
}

static void tell_members(Open *open) {
        GroupRole *role = open->role;

        for (size_t i = 0; i < open->create.n_members; i++) {
                const char *user = open->create.members[i];
                int r = online_subscribe(role->online, user, open->conversation->id);

                if (r >= 0)
                        fanout_membership(role, user, open->conversation, &open->call->trace);
                else if (r != -ENOENT)
                        log_warning_errno(r, "Failed to subscribe a user to a new conversation: %m");
                event_conversation_added(
                        role, user, open->conversation, open->call->caller.user, &open->call->trace);
        }
}

static void on_created(Create *create, int r) {
        Open *open = CONTAINER_OF(create, Open, create);

        if (r < 0)
                return open_fail(open, r);
        if (create->created)
                tell_members(open);
        open_return(open);
}

static void create(Open *open) {
        const char *caller = open->call->caller.user;
        int r;

        open->create.conversation = open->conversation;
        open->create.kind = SC__CONVERSATION_KIND__CONVERSATION_KIND_DIRECT;
        open->create.creator = caller;
        open->create.members[open->create.n_members++] = caller;
        if (!streq(caller, open->other))
                open->create.members[open->create.n_members++] = open->other;
        open->create.done = on_created;
        r = create_conversation(&open->create);
        if (r < 0)
                open_fail(open, r);
}

static void on_user(Call *lookup, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        Open *open = userdata;
        Call *call = open->call;

        if (!open->role) {
                free(open);
                return;
        }
        LIST_REMOVE(open, entry);
        open->waiting = false;
        if (code == ERROR_NONE)
                return create(open);
        open_free(open);
        call_fail(call, code, "%s", code == ERROR_USER_NOT_FOUND ? "user" : strempty(detail));
}

static void find_user(Open *open) {
        GroupRole *role = open->role;
        int r;

        LIST_INSERT_HEAD(&role->opens, open, entry);
        open->waiting = true;
        r = role->ports.find_user(
                open->other, &open->call->trace, &open->call->caller, on_user, open, role->ports.userdata);
        if (r < 0)
                open_fail(open, r);
}

static void on_members(int r, const StoreRows *rows, size_t n, void *userdata) {
        Open *open = userdata;
        size_t n_wanted = streq(open->call->caller.user, open->other) ? 1 : 2;

        if (r < 0)
                return open_fail(open, r);
        for (size_t i = 0; i < rows[0].n; i++)
                (void) conversation_note_member(open->conversation, (const Sc__Member *) rows[0].records[i]);
        if (rows[0].n == n_wanted)
                return open_return(open);
        /* Its creation was cut short. */
        create(open);
}

static void opened_already(Open *open) {
        Sc__Member from = SC__MEMBER__INIT;
        int r;

        if (conversation_find_member(open->conversation, open->call->caller.user))
                return open_return(open);
        from.conversation = open->conversation->id;
        r = store_read(open->role->store,
                &(StoreRead){.info = &sc__member__info,
                        .from = &from.base,
                        .n_prefix = 1,
                        .limit = CREATE_MAX_MEMBERS},
                1, on_members, open);
        if (r < 0)
                open_fail(open, r);
}

static void on_loaded(int r, void *userdata) {
        Open *open = userdata;

        if (r < 0)
                return open_fail(open, r);
        if (open->conversation->state == CONVERSATION_LOADED)
                return opened_already(open);
        if (streq(open->call->caller.user, open->other))
                return create(open);
        find_user(open);
}

static void direct_id(const char *a, const char *b, char ret[static UUID_TEXT_SIZE]) {
        char name[2 * CONVERSATION_ID_SIZE];
        bool ordered = strcmp(a, b) <= 0;

        snprintf(name, sizeof name, "%s %s", ordered ? a : b, ordered ? b : a);
        uuid_from_name("direct", name, ret);
}

void handle_conversation_open_direct(Call *call, const Sc__OpenDirectRequest *request) {
        GroupRole *role = call->role;
        char id[UUID_TEXT_SIZE];
        Open *open;
        int r;

        if (isempty(call->caller.user))
                return call_fail(call, ERROR_UNAUTHENTICATED, "%s", "this needs a user");
        open = new0(Open, 1);
        if (!open)
                return call_fail_errno(call, -ENOMEM, "open a conversation");
        direct_id(call->caller.user, request->user, id);
        *open = (Open){.role = role, .call = call, .other = request->user};
        open->conversation = conversations_get(role->conversations, id);
        if (!open->conversation)
                return open_fail(open, -ENOMEM);
        r = conversations_load(role->conversations, &open->conversation, 1, on_loaded, open);
        if (r < 0)
                return open_fail(open, r);
        if (r > 0)
                on_loaded(0, open);
}
