/* SPDX-License-Identifier: Apache-2.0 */
#include "group/inbox/inbox.h"

#include "group/conversation/create.h"
#include "group/conversation/load.h"
#include "group/message/append.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define EVENT_KIND "event"
#define PAGE_ENTRIES 5000U
#define PAGE_BYTES (2U << 20)

int inbox_open(GroupRole *role, const char *user, Conversation **ret) {
        _cleanup_conversation_ Conversation *inbox = NULL;
        char id[CONVERSATION_ID_SIZE];
        uint64_t last_intent;

        personal_conversation_id(user, id);
        int r = conversation_open(role, id, &inbox);
        if (r == 0)
                r = conversation_create(inbox,
                        &(CreateRequest){
                                .kind = SC__CONVERSATION_KIND__CONVERSATION_KIND_PERSONAL,
                                .creator = user,
                                .members = {user},
                                .n_members = 1,
                        },
                        &last_intent);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(inbox);
        return 0;
}

/* --- changing it --- */

int inbox_append(
        Call *call, Conversation *inbox, Sc__Event *event, StoreItem *followers, size_t n_followers) {
        Sc__Message message = SC__MESSAGE__INIT;
        Sc__Received received;
        char client_msg_id[UUID_TEXT_SIZE];
        Append append = {};

        /* Of an intent the id follows, so that its event is stored once however often it is delivered. */
        if (call->intent.source)
                intent_make_id(call, client_msg_id);
        else
                uuid_v7(client_msg_id);
        message.conversation = inbox->id;
        message.client_msg_id = client_msg_id;
        message.kind = (char *) EVENT_KIND;
        message.created_at = unix_msec();
        message.event = event;
        if (call->intent.source)
                followers[n_followers++] = intent_follower(call, &received);
        append.item.message = &message;
        append.item.followers = followers;
        append.item.n_followers = n_followers;
        append.trace = call->trace;
        int r = append_wait(&append, inbox);
        if (r < 0)
                return r;
        if (append.item.conflict)
                return -EIO;
        return append.item.duplicate;
}

int inbox_open_for_intent(Call *call, const char *user, Conversation **ret) {
        GroupRole *role = call->role;

        int r = inbox_open(role, user, ret);
        if (r < 0)
                return r;
        return intent_is_repeat(call, role->store);
}

/* --- reading it --- */

static StoreRead entries_read(const Sc__InboxEntry *from, size_t max) {
        return (StoreRead){.info = &sc__inbox_entry__info,
                .from = &from->base,
                .n_prefix = 1,
                .after = !isempty(from->conversation),
                .limit = (unsigned) MIN(max, PAGE_ENTRIES),
                .max_bytes = PAGE_BYTES};
}

static int add_rows(Arena *arena, const StoreRows *rows, Sc__InboxEntry ***entries, size_t *n) {
        /* The usual case is one page. */
        if (*n == 0) {
                *entries = (Sc__InboxEntry **) rows->records;
                *n = rows->n;
                return 0;
        }
        Sc__InboxEntry **all = arena_new(arena, Sc__InboxEntry *, *n + rows->n);
        if (!all)
                return -ENOMEM;
        memcpy(all, *entries, *n * sizeof(*all));
        memcpy(all + *n, rows->records, rows->n * sizeof(*all));
        *entries = all;
        *n += rows->n;
        return 0;
}

/* The pages behind the first. */
static int read_further(GroupRole *role, Arena *arena, Sc__InboxEntry *from, const StoreRows *first,
        size_t max, Sc__InboxEntry ***ret, size_t *ret_n) {
        Sc__InboxEntry **entries = NULL;
        const StoreRows *rows = first;
        StoreRows *next;
        size_t n = 0;
        int r;

        for (;;) {
                r = add_rows(arena, rows, &entries, &n);
                if (r < 0)
                        return r;
                if (!rows->more || n >= max)
                        break;
                from->conversation = entries[n - 1]->conversation;
                StoreRead read = entries_read(from, max - n);
                r = store_read(role->store, arena, &read, 1, &next);
                if (r < 0)
                        return r;
                rows = next;
        }
        if (rows->more)
                log_peer((.user = from->inbox + 1), LOG_WARNING,
                        "A user has more than %zu conversations; the others are left out.", max);
        *ret = entries;
        *ret_n = n;
        return 0;
}

static int read_inbox(GroupRole *role, Arena *arena, const char *user, const char *session, size_t max,
        bool *ret_ended, Sc__InboxEntry ***ret, size_t *ret_n) {
        Sc__EndedSession ended = SC__ENDED_SESSION__INIT;
        Sc__InboxEntry from = SC__INBOX_ENTRY__INIT;
        char inbox[CONVERSATION_ID_SIZE];
        StoreRows *rows;

        personal_conversation_id(user, inbox);
        from.inbox = ended.inbox = inbox;
        ended.session = (char *) strempty(session);
        const StoreRead reads[] = {
                entries_read(&from, max),
                {.info = &sc__ended_session__info, .from = &ended.base, .n_prefix = 2},
        };
        int r = store_read(role->store, arena, reads, session ? 2 : 1, &rows);
        if (r < 0)
                return r;
        if (session)
                *ret_ended = rows[1].n > 0;
        return read_further(role, arena, &from, &rows[0], max, ret, ret_n);
}

int inbox_read(
        GroupRole *role, Arena *arena, const char *user, size_t max, Sc__InboxEntry ***ret, size_t *ret_n) {
        return read_inbox(role, arena, user, NULL, max, NULL, ret, ret_n);
}

int inbox_read_attaching(GroupRole *role, Arena *arena, const char *user, const char *session, size_t max,
        bool *ret_ended, Sc__InboxEntry ***ret, size_t *ret_n) {
        return read_inbox(role, arena, user, session, max, ret_ended, ret, ret_n);
}

int inbox_has_ended(GroupRole *role, Arena *arena, const char *user, const char *session) {
        Sc__EndedSession key = SC__ENDED_SESSION__INIT, *found;
        char inbox[CONVERSATION_ID_SIZE];

        personal_conversation_id(user, inbox);
        key.inbox = inbox;
        key.session = (char *) session;
        return store_get(role->store, arena, &sc__ended_session__info, &key.base, &found);
}
