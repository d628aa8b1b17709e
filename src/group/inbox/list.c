/* SPDX-License-Identifier: Apache-2.0 */

/* conversation.list, in three submissions, however many conversations there are: the caller's inbox; the
 * heads, which tell the order; what is shown of the page. Latest activity first, and of two with the same time
 * the one with the smaller id. */

#include <inttypes.h>
#include <stdio.h>

#include "group/conversation/load.h"
#include "group/conversation/view.h"
#include "group/inbox/inbox.h"
#include "schema-tables.h"
#include "service-handlers.h"
#include "util/string-util.h"

#define LIST_LIMIT_DEFAULT 50U
#define LIST_LIMIT_MAX 200U
#define LIST_MAX_CONVERSATIONS 20000U /* of one user; further ones are not listed */

typedef struct ListItem {
        const char *conversation;
        Sc__ConversationKind kind;
        int64_t last_at;
        uint64_t
                head_seq; /* how far the conversation was when its head was stored, UINT64_MAX: it is loaded */
} ListItem;

static int compare_items(const void *a, const void *b) {
        const ListItem *left = a, *right = b;

        if (left->last_at != right->last_at)
                return left->last_at > right->last_at ? -1 : 1;
        return strcmp(left->conversation, right->conversation);
}

/* --- the cursor between pages: the last item of the page before --- */

static char *format_cursor(Arena *arena, const ListItem *item) {
        return arena_printf(arena, "%" PRId64 ":%s", item->last_at, item->conversation);
}

static int parse_cursor(Call *call, const char *after, ListItem *ret) {
        const char *colon = strchr(after, ':');
        _cleanup_free_ char *number = colon ? strndup(after, (size_t) (colon - after)) : NULL;
        uint64_t last_at;

        if (!number || parse_u64(number, INT64_MAX, &last_at) < 0)
                return call_refuse(call, ERROR_INVALID_ARGUMENT, "after: not the next_after of a page");
        *ret = (ListItem){.conversation = colon + 1, .last_at = (int64_t) last_at};
        return 0;
}

/* --- when there was activity in each --- */

static int read_heads(Call *call, ListItem *items, const size_t *missing, size_t n) {
        GroupRole *role = call->role;
        Sc__ConversationHead *keys = arena_new(&call->arena, Sc__ConversationHead, n);
        StoreRead *reads = arena_new(&call->arena, StoreRead, n);
        StoreRows *rows;

        if (!keys || !reads)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                keys[i] = (Sc__ConversationHead) SC__CONVERSATION_HEAD__INIT;
                keys[i].conversation = (char *) items[missing[i]].conversation;
                reads[i] = (StoreRead){
                        .info = &sc__conversation_head__info, .from = &keys[i].base, .n_prefix = 1};
        }
        int r = store_read(role->store, &call->arena, reads, n, &rows);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                const Sc__ConversationHead *head =
                        rows[i].n > 0 ? (const Sc__ConversationHead *) rows[i].records[0] : NULL;
                if (!head)
                        continue;
                items[missing[i]].head_seq = head->last_seq;
                if (head->last_at > 0)
                        items[missing[i]].last_at = head->last_at;
        }
        return 0;
}

static int set_times(Call *call, ListItem *items, size_t n) {
        GroupRole *role = call->role;
        size_t *missing = arena_new(&call->arena, size_t, n), n_missing = 0;

        if (!missing)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                const Conversation *loaded =
                        conversations_find_loaded(role->conversations, items[i].conversation);
                if (loaded) {
                        items[i].last_at = loaded->last_at;
                        items[i].head_seq = UINT64_MAX;
                } else
                        missing[n_missing++] = i;
        }
        return n_missing > 0 ? read_heads(call, items, missing, n_missing) : 0;
}

/* All of the caller's, in their order. */
static int read_items(Call *call, ListItem **ret, size_t *ret_n) {
        Sc__InboxEntry **entries;
        ListItem *items;
        size_t n;

        int r = inbox_read(
                call->role, &call->arena, call->caller.user, LIST_MAX_CONVERSATIONS, &entries, &n);
        if (r < 0)
                return r;
        items = arena_new(&call->arena, ListItem, n + 1);
        if (!items)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                items[i] = (ListItem){entries[i]->conversation, entries[i]->kind, entries[i]->added_at};
        r = n > 0 ? set_times(call, items, n) : 0;
        if (r < 0)
                return r;
        qsort(items, n, sizeof(*items), compare_items);
        *ret = items;
        *ret_n = n;
        return 0;
}

/* --- the page --- */

static size_t find_begin(const ListItem *items, size_t n, const ListItem *after) {
        size_t i = 0;

        while (i < n && compare_items(&items[i], after) <= 0)
                i++;
        return i;
}

/* As many as fit into one response; the rest is on the next page. Answers how many of the items these are. */
static size_t take_fitting(Sc__ConversationView **views, size_t n, Sc__ConversationListResponse *response) {
        size_t size = 0, i;

        response->conversations = views;
        for (i = 0; i < n; i++) {
                if (!views[i])
                        continue;
                size += protobuf_c_message_get_packed_size(&views[i]->base);
                if (response->n_conversations > 0 && size > GROUP_MAX_PAGE)
                        break;
                views[response->n_conversations++] = views[i];
        }
        return i;
}

/* The process before was killed before it stored this one's head, and so the cursors of those who sent. */
static bool is_behind(const ListItem *item, const Sc__ConversationView *view) {
        return view && view->last_seq > item->head_seq;
}

/* Loading finds them in the log. May suspend. */
static int catch_up(Call *call, const ListItem *items, Sc__ConversationView **views, size_t n) {
        int r = 0;

        for (size_t i = 0; i < n && r >= 0; i++) {
                _cleanup_conversation_ Conversation *conversation = NULL;

                if (!is_behind(&items[i], views[i]))
                        continue;
                r = conversation_open(call->role, items[i].conversation, &conversation);
                if (r > 0)
                        view_update(call, views[i], conversation);
        }
        return MIN(r, 0);
}

static int read_page(Call *call, const ListItem *items, size_t n, Sc__ConversationListResponse *response,
        size_t *ret_taken) {
        ViewSource *sources = arena_new(&call->arena, ViewSource, n + 1);
        Sc__ConversationView **views;

        if (!sources)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                sources[i] = (ViewSource){items[i].conversation, items[i].kind};
        int r = views_read(call, sources, n, &views);
        if (r >= 0)
                r = catch_up(call, items, views, n);
        if (r < 0)
                return r;
        *ret_taken = take_fitting(views, n, response);
        return 0;
}

int handle_conversation_list(
        Call *call, const Sc__ConversationListRequest *request, Sc__ConversationListResponse *response) {
        size_t n, begin = 0, limit = MIN(request->limit ?: LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX), n_taken;
        ListItem *items, after = {};

        int r = isempty(request->after) ? 0 : parse_cursor(call, request->after, &after);
        if (r < 0)
                return r;
        r = read_items(call, &items, &n);
        if (r < 0)
                return r;
        if (after.conversation)
                begin = find_begin(items, n, &after);
        r = read_page(call, items + begin, MIN(n - begin, limit), response, &n_taken);
        if (r < 0)
                return r;
        if (begin + n_taken < n && n_taken > 0) {
                response->next_after = format_cursor(&call->arena, &items[begin + n_taken - 1]);
                if (!response->next_after)
                        return -ENOMEM;
        }
        return 0;
}
