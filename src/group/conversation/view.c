/* SPDX-License-Identifier: Apache-2.0 */
#include "group/conversation/view.h"

#include "schema-tables.h"
#include "util/string-util.h"

/* For each conversation: its record, the caller's member or, of a direct one, all members, its last entry. */
enum {
        READ_CONVERSATION,
        READ_MEMBERS,
        READ_LAST,
        N_READS,
};

#define DIRECT_MEMBERS 2U

/* What the reads of one conversation point at until they are submitted. */
typedef struct ViewKeys {
        Sc__Conversation conversation;
        Sc__Member member;
        Sc__Message last;
} ViewKeys;

static bool is_direct(const ViewSource *source) {
        return source->kind == SC__CONVERSATION_KIND__CONVERSATION_KIND_DIRECT;
}

static void make_reads(const ViewSource *source, const char *user, ViewKeys *keys, StoreRead *reads) {
        keys->conversation = (Sc__Conversation) SC__CONVERSATION__INIT;
        keys->member = (Sc__Member) SC__MEMBER__INIT;
        keys->last = (Sc__Message) SC__MESSAGE__INIT;
        keys->conversation.id = keys->member.conversation = keys->last.conversation =
                (char *) source->conversation;
        keys->member.user = (char *) user;
        reads[READ_CONVERSATION] = (StoreRead){
                .info = &sc__conversation__info, .from = &keys->conversation.base, .n_prefix = 1};
        reads[READ_MEMBERS] = (StoreRead){.info = &sc__member__info,
                .from = &keys->member.base,
                .n_prefix = is_direct(source) ? 1 : 2,
                .limit = DIRECT_MEMBERS};
        reads[READ_LAST] = (StoreRead){
                .info = &sc__message__info, .from = &keys->last.base, .n_prefix = 1, .descending = true};
}

static int set_members(
        Arena *arena, Sc__ConversationView *view, const ViewSource *source, const StoreRows *rows) {
        if (!is_direct(source))
                return 0;
        view->members = arena_new(arena, char *, rows->n + 1);
        if (!view->members)
                return -ENOMEM;
        for (size_t i = 0; i < rows->n; i++)
                view->members[view->n_members++] = ((Sc__Member *) rows->records[i])->user;
        return 0;
}

static void set_unread(Sc__ConversationView *view, uint64_t read_count) {
        uint64_t last_count = view->last_message ? view->last_message->count : 0;

        /* The cursor may be at an entry that was committed after the last one was read. */
        view->unread_count =
                last_count > read_count ? (uint32_t) MIN(last_count - read_count, UINT32_MAX) : 0;
}

static void set_cursor(
        Call *call, Sc__ConversationView *view, const Conversation *loaded, const StoreRows *members) {
        uint64_t read_count = 0;

        for (size_t i = 0; i < members->n; i++) {
                const Sc__Member *member = (const Sc__Member *) members->records[i];
                if (!streq(member->user, call->caller.user))
                        continue;
                view->read_seq = member->read_seq;
                read_count = member->read_count;
        }
        if (loaded)
                conversation_merge_cursor(loaded, call->caller.user, &view->read_seq, &read_count);
        set_unread(view, read_count);
}

void view_update(const Call *call, Sc__ConversationView *view, const Conversation *loaded) {
        uint64_t read_seq = view->read_seq, read_count = 0;

        conversation_merge_cursor(loaded, call->caller.user, &read_seq, &read_count);
        if (read_seq <= view->read_seq)
                return;
        view->read_seq = read_seq;
        set_unread(view, read_count);
}

static int make_view(
        Call *call, const ViewSource *source, const StoreRows *rows, Sc__ConversationView **ret) {
        GroupRole *role = call->role;
        Sc__ConversationView *view;

        *ret = NULL;
        if (rows[READ_CONVERSATION].n == 0)
                return 0;
        view = arena_new(&call->arena, Sc__ConversationView, 1);
        if (!view)
                return -ENOMEM;
        *view = (Sc__ConversationView) SC__CONVERSATION_VIEW__INIT;
        view->conversation = (Sc__Conversation *) rows[READ_CONVERSATION].records[0];
        if (rows[READ_LAST].n > 0) {
                view->last_message = (Sc__Message *) rows[READ_LAST].records[0];
                view->last_seq = view->last_message->seq;
        }
        set_cursor(call, view, conversations_find_loaded(role->conversations, source->conversation),
                &rows[READ_MEMBERS]);
        *ret = view;
        return set_members(&call->arena, view, source, &rows[READ_MEMBERS]);
}

int views_read(Call *call, const ViewSource *sources, size_t n, Sc__ConversationView ***ret) {
        GroupRole *role = call->role;
        Sc__ConversationView **views = arena_new(&call->arena, Sc__ConversationView *, n + 1);
        ViewKeys *keys = arena_new(&call->arena, ViewKeys, n + 1);
        StoreRead *reads = arena_new(&call->arena, StoreRead, n * N_READS + 1);
        StoreRows *rows;

        if (!views || !keys || !reads)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                make_reads(&sources[i], call->caller.user, &keys[i], &reads[i * N_READS]);
        int r = n > 0 ? store_read(role->store, &call->arena, reads, n * N_READS, &rows) : 0;
        for (size_t i = 0; i < n && r >= 0; i++)
                r = make_view(call, &sources[i], &rows[i * N_READS], &views[i]);
        if (r < 0)
                return r;
        *ret = views;
        return 0;
}

int conversation_view(Call *call, const Conversation *conversation, Sc__ConversationView *response) {
        Sc__ConversationView **views;

        int r = views_read(call, &(ViewSource){conversation->id, conversation->kind}, 1, &views);
        if (r < 0)
                return r;
        if (!views[0])
                return -EIO; /* Conversations are never deleted. */
        *response = *views[0];
        return 0;
}
