/* SPDX-License-Identifier: Apache-2.0 */
#include "group/gateway/attach-batch.h"

#include "group/conversation/load.h"
#include "group/delivery/online.h"
#include "group/inbox/inbox.h"
#include "schema-tables.h"
#include "util/string-util.h"

/* The clients were registered when the request came, so that whatever is opened meanwhile reaches their
 * gateway. Here their users' conversations are found in the inboxes and subscribed to; only then is looked how
 * far each has come. So a message is either below what the answer says or pushed behind the answer. A session
 * that is ended meanwhile is found ended, or its client is kicked, as it is registered. */

/* One page of one user's conversations, whichever clients asked for it. */
struct AttachPage {
        const char *user;
        const char *after; /* "": the first page, which has the personal conversation too */
        StoreRows *rows; /* of the inbox */
        Conversation *personal; /* NULL: not on this page */
        Conversation **conversations; /* those of the rows; valid while the batch pins them */
        size_t n_conversations;
        uint32_t *places; /* in the answer; NULL: not yet known */
        size_t n_places;
        int r; /* why the user cannot be subscribed */
};

void attach_client_fail(AttachClient *client, Sc__ErrorCode error, const char *detail) {
        client->error = error;
        client->detail = detail;
}

/* --- the pages --- */

static int compare_clients(const void *a, const void *b) {
        const AttachClient *left = *(AttachClient *const *) a, *right = *(AttachClient *const *) b;
        int order = strcmp(left->request->user, right->request->user);

        return order != 0 ? order : strcmp(left->request->after, right->request->after);
}

static int make_pages(AttachBatch *batch) {
        Arena *arena = &batch->call->arena;
        AttachClient **sorted = arena_new(arena, AttachClient *, batch->n_clients + 1);
        size_t n = 0;

        batch->pages = arena_new(arena, AttachPage, batch->n_clients + 1);
        if (!sorted || !batch->pages)
                return -ENOMEM;
        FOREACH_ARRAY(client, batch->clients, batch->n_clients)
                if (client->error == ERROR_NONE)
                        sorted[n++] = client;
        qsort(sorted, n, sizeof(*sorted), compare_clients);
        for (size_t i = 0; i < n; i++) {
                if (i == 0 || compare_clients(&sorted[i - 1], &sorted[i]) != 0)
                        batch->pages[batch->n_pages++] = (AttachPage){
                                .user = sorted[i]->request->user,
                                .after = sorted[i]->request->after,
                        };
                sorted[i]->page = &batch->pages[batch->n_pages - 1];
        }
        return 0;
}

/* --- what the store knows of users and sessions --- */

/* What the reads point at until they are submitted. */
typedef struct Keys {
        Sc__InboxEntry entry;
        Sc__EndedSession ended;
        char inbox[CONVERSATION_ID_SIZE];
} Keys;

static StoreRead page_read(const AttachPage *page, Keys *keys, size_t limit) {
        personal_conversation_id(page->user, keys->inbox);
        keys->entry = (Sc__InboxEntry) SC__INBOX_ENTRY__INIT;
        keys->entry.inbox = keys->inbox;
        keys->entry.conversation = (char *) page->after;
        return (StoreRead){.info = &sc__inbox_entry__info,
                .from = &keys->entry.base,
                .n_prefix = 1,
                .after = !isempty(page->after),
                .limit = (unsigned) limit,
                .max_bytes = limit * 512};
}

static StoreRead session_read(const AttachClient *client, Keys *keys) {
        personal_conversation_id(client->request->user, keys->inbox);
        keys->ended = (Sc__EndedSession) SC__ENDED_SESSION__INIT;
        keys->ended.inbox = keys->inbox;
        keys->ended.session = client->request->session;
        return (StoreRead){.info = &sc__ended_session__info, .from = &keys->ended.base, .n_prefix = 2};
}

static int read_users(AttachBatch *batch) {
        Arena *arena = &batch->call->arena;
        size_t n = batch->n_pages + batch->n_clients, n_sessions = 0;
        size_t limit =
                MIN(MAX(ATTACH_MAX_ENTRIES / MAX(batch->n_pages, 1U), ATTACH_MIN_PAGE), ATTACH_MAX_PAGE);
        Keys *keys = arena_new(arena, Keys, n + 1);
        StoreRead *reads = arena_new(arena, StoreRead, n + 1);
        StoreRows *rows;

        if (!keys || !reads)
                return -ENOMEM;
        for (size_t i = 0; i < batch->n_pages; i++)
                reads[i] = page_read(&batch->pages[i], &keys[i], limit);
        for (size_t i = 0; i < batch->n_clients; i++)
                if (batch->clients[i].page) {
                        size_t k = batch->n_pages + n_sessions++;
                        reads[k] = session_read(&batch->clients[i], &keys[k]);
                }
        if (n_sessions == 0)
                return 0;
        int r = store_read(batch->role->store, arena, reads, batch->n_pages + n_sessions, &rows);
        if (r < 0)
                return r;
        for (size_t i = 0; i < batch->n_pages; i++)
                batch->pages[i].rows = &rows[i];
        rows += batch->n_pages;
        FOREACH_ARRAY(client, batch->clients, batch->n_clients)
                if (client->page && (rows++)->n > 0)
                        attach_client_fail(client, ERROR_SESSION_REVOKED, "session");
        return 0;
}

/* --- subscribing --- */

static int subscribe_page(AttachBatch *batch, const AttachPage *page) {
        int r = 0;

        for (size_t i = 0; i < page->rows->n && r >= 0; i++)
                r = online_subscribe(batch->role->online, page->user,
                        ((Sc__InboxEntry *) page->rows->records[i])->conversation);
        return r;
}

/* --- the conversations --- */

/* Adds it to those of the batch, unless it is among them. `mark` names this batch in this turn of the loop. */
static int add_conversation(AttachBatch *batch, uint32_t mark, const char *id, Conversation **ret) {
        Conversation *conversation = conversations_get(batch->role->conversations, id);

        if (!conversation)
                return -ENOMEM;
        *ret = conversation;
        if (conversation->attach_mark == mark) {
                conversation_unpin(conversation);
                return 0;
        }
        conversation->attach_mark = mark;
        batch->conversations[batch->n_conversations++] = conversation;
        return 0;
}

static int add_page(AttachBatch *batch, uint32_t mark, AttachPage *page) {
        char personal[CONVERSATION_ID_SIZE];
        int r = 0;

        page->conversations = arena_new(&batch->call->arena, Conversation *, page->rows->n + 1);
        if (!page->conversations)
                return -ENOMEM;
        if (isempty(page->after)) {
                personal_conversation_id(page->user, personal);
                r = add_conversation(batch, mark, personal, &page->personal);
        }
        for (size_t i = 0; i < page->rows->n && r >= 0; i++) {
                r = add_conversation(batch, mark, ((Sc__InboxEntry *) page->rows->records[i])->conversation,
                        &page->conversations[i]);
                page->n_conversations += r >= 0;
        }
        return r;
}

static int pin_conversations(AttachBatch *batch) {
        uint32_t mark = ++batch->role->attach_mark;
        size_t n = 0;
        int r = 0;

        for (size_t i = 0; i < batch->n_pages; i++)
                n += batch->pages[i].rows->n + 1;
        batch->conversations = arena_new(&batch->call->arena, Conversation *, n + 1);
        if (!batch->conversations)
                return -ENOMEM;
        for (size_t i = 0; i < batch->n_pages && r >= 0; i++)
                if (batch->pages[i].r >= 0)
                        r = add_page(batch, mark, &batch->pages[i]);
        return r;
}

static int open_personal(AttachBatch *batch) {
        Conversation **missing = arena_new(&batch->call->arena, Conversation *, batch->n_pages + 1);
        size_t n = 0;

        if (!missing)
                return -ENOMEM;
        for (size_t i = 0; i < batch->n_pages; i++) {
                Conversation *personal = batch->pages[i].personal;
                if (personal && personal->state != CONVERSATION_LOADED)
                        missing[n++] = personal;
        }
        return n > 0 ? inboxes_create(batch->role, missing, n) : 0;
}

/* --- the answer --- */

static int tell_conversations(AttachBatch *batch) {
        Arena *arena = &batch->call->arena;
        Sc__Subscription *items = arena_new(arena, Sc__Subscription, batch->n_conversations + 1);
        Sc__Subscription **list = arena_new(arena, Sc__Subscription *, batch->n_conversations + 1);

        if (!items || !list)
                return -ENOMEM;
        batch->response.subscriptions = list;
        for (size_t i = 0; i < batch->n_conversations; i++) {
                Conversation *conversation = batch->conversations[i];
                Sc__Subscription *item = &items[batch->response.n_subscriptions];

                /* One without a record, of a member that was stored, is a broken store: it is left out. */
                conversation->attach_place = UINT32_MAX;
                if (conversation->state != CONVERSATION_LOADED)
                        continue;
                *item = (Sc__Subscription) SC__SUBSCRIPTION__INIT;
                item->conversation = conversation->id;
                item->kind = conversation->kind;
                item->epoch = conversation->epoch;
                item->last_seq = conversation->sequence.last_seq;
                conversation->attach_place = (uint32_t) batch->response.n_subscriptions;
                list[batch->response.n_subscriptions++] = item;
        }
        return 0;
}

static void add_place(AttachPage *page, const Conversation *conversation) {
        if (conversation->attach_place != UINT32_MAX)
                page->places[page->n_places++] = conversation->attach_place;
}

static int find_places(AttachBatch *batch, AttachPage *page) {
        if (page->places)
                return 0;
        page->places = arena_new(&batch->call->arena, uint32_t, page->n_conversations + 1);
        if (!page->places)
                return -ENOMEM;
        if (page->personal)
                add_place(page, page->personal);
        for (size_t i = 0; i < page->n_conversations; i++)
                add_place(page, page->conversations[i]);
        return 0;
}

static int tell_client(AttachBatch *batch, AttachClient *client, Sc__AttachResponse__Result *result) {
        AttachPage *page = client->page;

        /* It may have gone while we waited, and with it the user. */
        if (client->error == ERROR_NONE &&
                !online_is_attached(batch->role->online, client->request->client, client->serial))
                attach_client_fail(client, ERROR_UNAVAILABLE, "the connection has gone");
        if (client->error == ERROR_NONE && page->r < 0)
                attach_client_fail(client, call_code_of_errno(page->r), "");
        *result = (Sc__AttachResponse__Result) SC__ATTACH_RESPONSE__RESULT__INIT;
        result->error = client->error;
        if (client->error != ERROR_NONE) {
                result->detail = (char *) client->detail;
                return 0;
        }
        int r = find_places(batch, page);
        if (r < 0)
                return r;
        result->subscriptions = page->places;
        result->n_subscriptions = page->n_places;
        if (page->rows->more && page->rows->n > 0)
                result->next = ((Sc__InboxEntry *) page->rows->records[page->rows->n - 1])->conversation;
        return 0;
}

/* Does not suspend, and nothing may between this and the answer. */
static int make_response(AttachBatch *batch) {
        Arena *arena = &batch->call->arena;
        Sc__AttachResponse__Result *results =
                arena_new(arena, Sc__AttachResponse__Result, batch->n_clients + 1);

        batch->response.results = arena_new(arena, Sc__AttachResponse__Result *, batch->n_clients + 1);
        if (!results || !batch->response.results)
                return -ENOMEM;
        int r = tell_conversations(batch);
        for (size_t i = 0; i < batch->n_clients && r >= 0; i++) {
                r = tell_client(batch, &batch->clients[i], &results[i]);
                batch->response.results[batch->response.n_results++] = &results[i];
        }
        return r;
}

/* --- the whole --- */

int attach_batch_run(AttachBatch *batch) {
        batch->response = (Sc__AttachResponse) SC__ATTACH_RESPONSE__INIT;
        int r = fiber_check_cancelled();
        if (r >= 0)
                r = make_pages(batch);
        if (r >= 0)
                r = read_users(batch);
        if (r < 0)
                return r;
        for (size_t i = 0; i < batch->n_pages; i++)
                batch->pages[i].r = subscribe_page(batch, &batch->pages[i]);
        r = pin_conversations(batch);
        if (r >= 0)
                r = conversations_load(batch->role, batch->conversations, batch->n_conversations);
        if (r >= 0)
                r = open_personal(batch);
        return r < 0 ? r : make_response(batch);
}

void attach_batch_end(AttachBatch *batch, int r) {
        Online *online = batch->role->online;
        Conversation **conversations = batch->conversations;
        size_t n = batch->n_conversations;

        /* A gateway whose attach fails has no client here. */
        FOREACH_ARRAY(client, batch->clients, batch->n_clients)
                if ((r < 0 || client->error != ERROR_NONE) &&
                        online_is_attached(online, client->request->client, client->serial))
                        online_detach(online, client->request->client, batch->call->origin);
        Call *call = batch->call;
        Arena arena;
        arena_init(&arena, 0);
        arena_adopt(&arena, &call->arena);
        call_end(call, r, &batch->response.base);
        FOREACH_ARRAY(conversation, conversations, n)
                conversation_unpin(*conversation);
        arena_done(&arena);
}
