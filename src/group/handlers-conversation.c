/* SPDX-License-Identifier: Apache-2.0 */

/* conversation.list, .get, .mark_read and .presence. */

#include "group/access.h"
#include "group/fanout.h"
#include "group/view.h"
#include "service-handlers.h"
#include "util/string-util.h"

#define LIST_LIMIT_DEFAULT 50U
#define LIST_LIMIT_MAX 200U
#define MARK_READ_MAX_TRIES 8U /* against others that move the same cursor */
#define PRESENCE_MAX_CLIENTS 10000U

/* --- conversation.get --- */

static void get_granted(Call *call, Conversation *conversation, const Member *member) {
        view_return(call, conversation, member->read_seq);
}

void handle_conversation_get(Call *call, const Sc__ConversationGetRequest *request) {
        access_conversation(call, request->conversation, get_granted);
}

/* --- conversation.list: the caller's members by index, then the conversations, then their views --- */

typedef struct List {
        Call *call; /* in whose arena all of this is */
        size_t n; /* of the page */
        Conversation **conversations; /* pinned */
        ViewSource *sources; /* of those that exist */
        bool more; /* behind this page */
} List;

static void list_unpin(List *list) {
        for (size_t i = 0; i < list->n; i++)
                conversation_unpin(list->conversations[i]);
}

static void list_fail(List *list, int r) {
        list_unpin(list);
        call_fail_errno(list->call, r, "list conversations");
}

/* As many as fit into one response; the rest is on the next page. */
static size_t count_fitting(Sc__ConversationView **views, size_t n) {
        size_t size = 0, i;

        for (i = 0; i < n; i++) {
                size += protobuf_c_message_get_packed_size(&views[i]->base);
                if (i > 0 && size > GROUP_MAX_RESPONSE)
                        break;
        }
        return i;
}

static void on_list_views(Call *call, int r, Sc__ConversationView **views, size_t n, void *userdata) {
        Sc__ConversationListResponse response = SC__CONVERSATION_LIST_RESPONSE__INIT;
        const char *next_after = "";
        List *list = userdata;

        if (r < 0)
                return list_fail(list, r);
        response.conversations = views;
        response.n_conversations = count_fitting(views, n);
        if (response.n_conversations < n)
                next_after = list->sources[response.n_conversations - 1].conversation->id;
        else if (list->more)
                next_after = list->conversations[list->n - 1]->id;
        response.next_after = arena_strdup(&call->arena, next_after);
        if (!response.next_after)
                return list_fail(list, -ENOMEM);
        list_unpin(list);
        call_return(call, &response.base);
}

static void list_views(List *list) {
        size_t n = 0;
        int r;

        /* A member without its conversation is no conversation: creating it was cut short. */
        for (size_t i = 0; i < list->n; i++)
                if (list->conversations[i]->state == CONVERSATION_LOADED)
                        list->sources[n++] = (ViewSource){list->conversations[i], list->sources[i].read_seq};
        r = views_read(list->call, list->sources, n, on_list_views, list);
        if (r < 0)
                list_fail(list, r);
}

static void on_list_loaded(int r, void *userdata) {
        List *list = userdata;

        if (r < 0)
                list_fail(list, r);
        else
                list_views(list);
}

/* The page of these members, without the personal conversation. */
static int list_take_members(List *list, const StoreRows *rows, size_t limit) {
        GroupRole *role = list->call->role;

        list->conversations = arena_new(&list->call->arena, Conversation *, rows->n + 1);
        list->sources = arena_new(&list->call->arena, ViewSource, rows->n + 1);
        if (!list->conversations || !list->sources)
                return -ENOMEM;
        list->more = rows->more;
        for (size_t i = 0; i < rows->n; i++) {
                const Sc__Member *member = (const Sc__Member *) rows->records[i];

                if (is_personal_id(member->conversation))
                        continue;
                if (list->n == limit) {
                        list->more = true;
                        break;
                }
                list->conversations[list->n] = conversations_get(role->conversations, member->conversation);
                if (!list->conversations[list->n])
                        return -ENOMEM;
                list->sources[list->n++].read_seq = member->read_seq;
        }
        return 0;
}

static size_t list_limit(const Sc__ConversationListRequest *request) {
        return MIN(request->limit ?: LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX);
}

static void on_list_members(int r, const StoreRows *rows, size_t n, void *userdata) {
        List *list = userdata;
        Call *call = list->call;
        GroupRole *role = call->role;

        if (r >= 0)
                r = list_take_members(
                        list, &rows[0], list_limit((const Sc__ConversationListRequest *) call->request));
        if (r >= 0 && list->n == 0) {
                Sc__ConversationListResponse nothing = SC__CONVERSATION_LIST_RESPONSE__INIT;
                return call_return(call, &nothing.base);
        }
        if (r >= 0)
                r = conversations_load(
                        role->conversations, list->conversations, list->n, on_list_loaded, list);
        if (r < 0)
                list_fail(list, r);
        else if (r > 0)
                list_views(list);
}

void handle_conversation_list(Call *call, const Sc__ConversationListRequest *request) {
        GroupRole *role = call->role;
        Sc__Member from = SC__MEMBER__INIT;
        List *list = arena_new(&call->arena, List, 1);
        int r = -ENOMEM;

        from.user = call->caller.user;
        from.conversation = request->after;
        if (list) {
                list->call = call;
                /* One more for the personal conversation, which is left out. */
                r = store_read(role->store,
                        &(StoreRead){.info = &sc__member__info,
                                .index = role->members_by_user,
                                .from = &from.base,
                                .n_prefix = 1,
                                .after = !isempty(request->after),
                                .limit = (unsigned) list_limit(request) + 1},
                        1, on_list_members, list);
        }
        if (r < 0)
                call_fail_errno(call, r, "list conversations");
}

/* --- conversation.mark_read --- */

typedef struct MarkRead {
        Call *call; /* in whose arena this is */
        Conversation *conversation; /* pinned */
        Sc__Member record; /* as it is to be stored */
        unsigned n_tries;
} MarkRead;

static void mark_read_try(MarkRead *mark, const Member *member);

static void mark_read_return(Call *call, uint64_t read_seq) {
        Sc__MarkReadResponse response = SC__MARK_READ_RESPONSE__INIT;

        response.read_seq = read_seq;
        call_return(call, &response.base);
}

static void mark_read_fail(MarkRead *mark, int r) {
        conversation_unpin(mark->conversation);
        call_fail_errno(mark->call, r, "move the read cursor");
}

static void on_member_read_again(int r, const StoreRows *rows, size_t n, void *userdata) {
        MarkRead *mark = userdata;
        const Member *member;

        if (r < 0)
                return mark_read_fail(mark, r);
        if (rows[0].n == 0) {
                conversation_forget_member(mark->conversation, mark->call->caller.user);
                conversation_unpin(mark->conversation);
                return call_fail(mark->call, ERROR_NOT_A_MEMBER, "%s", "conversation");
        }
        member = conversation_note_member(mark->conversation, (const Sc__Member *) rows[0].records[0]);
        if (!member)
                return mark_read_fail(mark, -ENOMEM);
        mark_read_try(mark, member);
}

static void on_cursor_written(int r, size_t failed, void *userdata) {
        MarkRead *mark = userdata;
        _cleanup_conversation_ Conversation *conversation = mark->conversation;
        Call *call = mark->call;
        GroupRole *role = call->role;

        group_role_note_write(role, r);
        if ((r == -ESTALE || r == -ENOENT) && ++mark->n_tries < MARK_READ_MAX_TRIES) {
                r = store_get(
                        role->store, &sc__member__info, &mark->record.base, on_member_read_again, mark);
                if (r >= 0) {
                        TAKE_PTR(conversation);
                        return;
                }
        }
        if (r < 0)
                return call_fail_errno(call, r, "move the read cursor");

        mark->record.version++;
        (void) conversation_note_member(conversation, &mark->record);
        fanout_receipt(role, conversation->id, call->caller.user, mark->record.read_seq, &call->trace);
        mark_read_return(call, mark->record.read_seq);
}

static void mark_read_try(MarkRead *mark, const Member *member) {
        const Sc__MarkReadRequest *request = (const Sc__MarkReadRequest *) mark->call->request;
        _cleanup_conversation_ Conversation *conversation = mark->conversation;
        GroupRole *role = mark->call->role;
        uint64_t read_seq = MIN(request->seq, conversation->sequence.last_seq);

        if (read_seq <= member->read_seq)
                return mark_read_return(mark->call, member->read_seq);
        mark->record = (Sc__Member) SC__MEMBER__INIT;
        mark->record.conversation = conversation->id;
        mark->record.user = mark->call->caller.user;
        mark->record.read_seq = read_seq;
        mark->record.joined_at = member->joined_at;
        mark->record.version = member->version;
        int r = store_write(role->store, &(StoreWrite){STORE_UPDATE, &sc__member__info, &mark->record.base},
                1, on_cursor_written, mark);
        if (r < 0)
                return call_fail_errno(mark->call, r, "move the read cursor");
        TAKE_PTR(conversation);
}

static void mark_read_granted(Call *call, Conversation *conversation, const Member *member) {
        MarkRead *mark = arena_new(&call->arena, MarkRead, 1);

        if (!mark) {
                conversation_unpin(conversation);
                return call_fail_errno(call, -ENOMEM, "move the read cursor");
        }
        *mark = (MarkRead){.call = call, .conversation = conversation};
        mark_read_try(mark, member);
}

void handle_conversation_mark_read(Call *call, const Sc__MarkReadRequest *request) {
        access_conversation(call, request->conversation, mark_read_granted);
}

/* --- conversation.presence --- */

static int presence_fill(Call *call, const OnlineClient *clients, size_t n, Sc__PresenceResponse *response) {
        Sc__PresenceResponse__Client *items = arena_new(&call->arena, Sc__PresenceResponse__Client, n + 1);

        response->clients = arena_new(&call->arena, Sc__PresenceResponse__Client *, n + 1);
        if (!items || !response->clients)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                items[i] = (Sc__PresenceResponse__Client) SC__PRESENCE_RESPONSE__CLIENT__INIT;
                items[i].client = (char *) clients[i].id;
                items[i].user = (char *) clients[i].user;
                items[i].device = (char *) clients[i].device;
                response->clients[i] = &items[i];
        }
        response->n_clients = n;
        return 0;
}

static void presence_granted(Call *call, Conversation *pinned, const Member *member) {
        _cleanup_conversation_ Conversation *conversation = pinned;
        _cleanup_free_ OnlineClient *clients = new0(OnlineClient, PRESENCE_MAX_CLIENTS);
        Sc__PresenceResponse response = SC__PRESENCE_RESPONSE__INIT;
        GroupRole *role = call->role;
        int r = -ENOMEM;

        if (clients)
                r = presence_fill(call, clients,
                        online_clients(role->online, conversation->id, clients, PRESENCE_MAX_CLIENTS),
                        &response);
        if (r < 0)
                return call_fail_errno(call, r, "list who is online");
        call_return(call, &response.base);
}

void handle_conversation_presence(Call *call, const Sc__PresenceRequest *request) {
        access_conversation(call, request->conversation, presence_granted);
}
