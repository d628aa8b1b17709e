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

/* Its log must not be there yet; somebody else may create it meanwhile. May suspend. */
static int create(Conversation *inbox) {
        const char *user = inbox->id + 1;
        uint64_t last_intent;

        return conversation_create(inbox,
                &(CreateRequest){
                        .kind = SC__CONVERSATION_KIND__CONVERSATION_KIND_PERSONAL,
                        .creator = user,
                        .members = {user},
                        .n_members = 1,
                },
                &last_intent);
}

int inbox_open(GroupRole *role, const char *user, Conversation **ret) {
        _cleanup_conversation_ Conversation *inbox = NULL;
        char id[CONVERSATION_ID_SIZE];

        personal_conversation_id(user, id);
        int r = conversation_open(role, id, &inbox);
        if (r == 0)
                r = create(inbox);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(inbox);
        return 0;
}

/* --- many of them --- */

#define CREATORS_MAX 32U /* fibers that create side by side, so that their writes share commits */

/* What these fibers work on; of each has a reference. */
typedef struct Creation {
        unsigned n_refs;
        FiberQueue ended;
        size_t next, n;
        int r;
        Conversation *inboxes[]; /* pinned */
} Creation;

static void creation_unref(Creation *creation) {
        if (--creation->n_refs > 0)
                return;
        FOREACH_ARRAY(inbox, creation->inboxes, creation->n)
                conversation_unpin(*inbox);
        free(creation);
}
DEFINE_CLEANUP(Creation *, creation_unref);

static void create_some(Creation *creation) {
        while (creation->next < creation->n && creation->r >= 0) {
                int r = create(creation->inboxes[creation->next++]);
                creation->r = MIN(creation->r, r);
        }
}

static void on_creator(void *userdata) {
        Creation *creation = userdata;

        create_some(creation);
        fiber_queue_wake(&creation->ended);
        creation_unref(creation);
}

static void on_creator_cancelled(int r, void *userdata) {
        Creation *creation = userdata;

        fiber_queue_wake(&creation->ended);
        creation_unref(creation);
}

int inboxes_create(GroupRole *role, Conversation *const *inboxes, size_t n) {
        _cleanup_(creation_unrefp) Creation *creation = calloc(1, sizeof(Creation) + n * sizeof(inboxes[0]));

        if (!creation)
                return -ENOMEM;
        creation->n_refs = 1;
        for (; creation->n < n; creation->n++)
                creation->inboxes[creation->n] = conversation_pin(inboxes[creation->n]);
        for (unsigned i = 1; i < MIN(n, CREATORS_MAX); i++) {
                creation->n_refs++;
                if (fiber_start(role->fibers,
                            &(FiberStart){.main = on_creator,
                                    .cancelled = on_creator_cancelled,
                                    .userdata = creation,
                                    .key = "inboxes",
                                    .internal = true},
                            NULL) < 0) {
                        creation->n_refs--;
                        break; /* fewer of them do, too */
                }
        }
        create_some(creation);
        while (creation->n_refs > 1) {
                int r = fiber_queue_wait(&creation->ended, UINT64_MAX);
                if (r < 0)
                        return r;
        }
        return creation->r;
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

int inbox_read(
        GroupRole *role, Arena *arena, const char *user, size_t max, Sc__InboxEntry ***ret, size_t *ret_n) {
        Sc__InboxEntry from = SC__INBOX_ENTRY__INIT;
        char inbox[CONVERSATION_ID_SIZE];
        StoreRows *rows;

        personal_conversation_id(user, inbox);
        from.inbox = inbox;
        StoreRead read = entries_read(&from, max);
        int r = store_read(role->store, arena, &read, 1, &rows);
        return r < 0 ? r : read_further(role, arena, &from, rows, max, ret, ret_n);
}
