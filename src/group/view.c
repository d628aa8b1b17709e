/* SPDX-License-Identifier: Apache-2.0 */
#include "group/view.h"

#include "schema-tables.h"

/* For each conversation: its record, its members if it is a direct one, its last message, those unread. */
enum {
        READ_CONVERSATION,
        READ_MEMBERS,
        READ_LAST,
        READ_UNREAD,
        N_READS,
};

#define DIRECT_MEMBERS 2U

typedef struct Views {
        Call *call;
        const ViewSource *sources;
        size_t n;
        ViewsDone done;
        void *userdata;
} Views;

static Sc__ConversationView *make_view(Arena *arena, const ViewSource *source, const StoreRows *rows) {
        const StoreRows *members = &rows[READ_MEMBERS], *last = &rows[READ_LAST];
        Sc__ConversationView *view = arena_new(arena, Sc__ConversationView, 1);

        if (!view)
                return NULL;
        *view = (Sc__ConversationView) SC__CONVERSATION_VIEW__INIT;
        if (rows[READ_CONVERSATION].n > 0)
                view->conversation = (Sc__Conversation *) rows[READ_CONVERSATION].records[0];
        if (source->conversation->kind == SC__CONVERSATION_KIND__CONVERSATION_KIND_DIRECT) {
                view->members = arena_new(arena, char *, members->n);
                if (!view->members)
                        return NULL;
                for (size_t i = 0; i < members->n; i++)
                        view->members[view->n_members++] = ((Sc__Member *) members->records[i])->user;
        }
        if (last->n > 0) {
                view->last_message = (Sc__Message *) last->records[0];
                view->last_seq = view->last_message->seq;
        }
        view->read_seq = source->read_seq;
        view->unread_count = (uint32_t) rows[READ_UNREAD].n;
        return view;
}

static void on_read(int r, const StoreRows *rows, size_t n, void *userdata) {
        Views *views = userdata;
        Sc__ConversationView **all;

        if (r < 0)
                return views->done(views->call, r, NULL, 0, views->userdata);
        all = arena_new(&views->call->arena, Sc__ConversationView *, views->n);
        for (size_t i = 0; all && i < views->n; i++) {
                all[i] = make_view(&views->call->arena, &views->sources[i], &rows[i * N_READS]);
                if (!all[i])
                        all = NULL;
        }
        views->done(views->call, all ? 0 : -ENOMEM, all, all ? views->n : 0, views->userdata);
}

/* What the reads of one conversation point at until they are submitted. */
typedef struct ViewKeys {
        Sc__Conversation conversation;
        Sc__Member member;
        Sc__Message message;
} ViewKeys;

static void make_reads(const ViewSource *source, const char *user, ViewKeys *keys, StoreRead *reads) {
        keys->conversation = (Sc__Conversation) SC__CONVERSATION__INIT;
        keys->conversation.id = source->conversation->id;
        keys->member = (Sc__Member) SC__MEMBER__INIT;
        keys->member.conversation = source->conversation->id;
        keys->message = (Sc__Message) SC__MESSAGE__INIT;
        keys->message.conversation = source->conversation->id;
        keys->message.seq = source->read_seq;
        keys->message.sender = (char *) user;

        reads[READ_CONVERSATION] = (StoreRead){
                .info = &sc__conversation__info, .from = &keys->conversation.base, .n_prefix = 1};
        reads[READ_MEMBERS] = (StoreRead){.info = &sc__member__info,
                .from = &keys->member.base,
                .n_prefix = 1,
                .limit = DIRECT_MEMBERS};
        reads[READ_LAST] = (StoreRead){
                .info = &sc__message__info, .from = &keys->message.base, .n_prefix = 1, .descending = true};
        reads[READ_UNREAD] = (StoreRead){.info = &sc__message__info,
                .from = &keys->message.base,
                .n_prefix = 1,
                .after = true,
                .limit = VIEW_UNREAD_MAX,
                .count_only = true,
                .exclude_field = "sender"};
}

int views_read(Call *call, const ViewSource *sources, size_t n, ViewsDone done, void *userdata) {
        GroupRole *role = call->role;
        Views *views = arena_new(&call->arena, Views, 1);
        ViewKeys *keys = arena_new(&call->arena, ViewKeys, n);
        StoreRead *reads = arena_new(&call->arena, StoreRead, n * N_READS);

        if (!views || !keys || !reads)
                return -ENOMEM;
        *views = (Views){.call = call, .sources = sources, .n = n, .done = done, .userdata = userdata};
        for (size_t i = 0; i < n; i++)
                make_reads(&sources[i], call->caller.user, &keys[i], &reads[i * N_READS]);
        return store_read(role->store, reads, n * N_READS, on_read, views);
}

/* --- one --- */

static void on_view(Call *call, int r, Sc__ConversationView **views, size_t n, void *userdata) {
        _cleanup_conversation_ _unused_ Conversation *conversation = userdata;

        if (r < 0)
                call_fail_errno(call, r, "read a conversation");
        else
                call_return(call, &views[0]->base);
}

void view_return(Call *call, Conversation *pinned, uint64_t read_seq) {
        _cleanup_conversation_ Conversation *conversation = pinned;
        ViewSource *source = arena_new(&call->arena, ViewSource, 1);
        int r = -ENOMEM;

        if (source) {
                *source = (ViewSource){.conversation = conversation, .read_seq = read_seq};
                r = views_read(call, source, 1, on_view, conversation);
        }
        if (r < 0)
                return call_fail_errno(call, r, "read a conversation");
        TAKE_PTR(conversation);
}
