/* SPDX-License-Identifier: Apache-2.0 */
#define HASH_NONFATAL_OOM 1 /* an element that found no memory has no hh.tbl */
#include "group/conversation.h"

#include <stdio.h>

#include "schema-tables.h"
#include "util/string-util.h"

struct Conversations {
        Store *store;
        const uint64_t *limit;
        void *role;
        Conversation *entries; /* a hash by id */
        TAILQ_HEAD(UsedQueue, Conversation) used; /* those not pinned, the least recently used first */
};

/* --- entries --- */

int conversations_new(Conversations **ret, Store *store, const uint64_t *limit, void *role) {
        Conversations *table = new0(Conversations, 1);

        if (!table)
                return -ENOMEM;
        *table = (Conversations){.store = store, .limit = limit, .role = role};
        TAILQ_INIT(&table->used);
        *ret = table;
        return 0;
}

static void forget_members(Conversation *conversation) {
        Member *member, *next;

        HASH_ITER(hh, conversation->members, member, next) {
                HASH_DEL(conversation->members, member);
                free(member);
        }
}

static void forget(Conversation *conversation) {
        forget_members(conversation);
        HASH_DEL(conversation->table->entries, conversation);
        free(conversation);
}

Conversations *conversations_free(Conversations *table) {
        Conversation *conversation, *next;

        if (!table)
                return NULL;
        HASH_ITER(hh, table->entries, conversation, next)
                forget(conversation);
        return mfree(table);
}

size_t conversations_n(const Conversations *table) {
        return HASH_COUNT(table->entries);
}

static Conversation *add(Conversations *table, const char *id, size_t size) {
        Conversation *conversation = new0(Conversation, 1);

        if (!conversation)
                return NULL;
        conversation->table = table;
        conversation->role = table->role;
        sequence_init(&conversation->sequence, 0);
        memcpy(conversation->id, id, size);
        HASH_ADD_STR(table->entries, id, conversation);
        if (!conversation->hh.tbl)
                return mfree(conversation);
        conversation->n_pins = 1;
        return conversation;
}

Conversation *conversations_get(Conversations *table, const char *id) {
        size_t length = strlen(id);
        Conversation *conversation;

        HASH_FIND(hh, table->entries, id, length, conversation);
        if (conversation)
                return conversation_pin(conversation);
        return length < CONVERSATION_ID_SIZE ? add(table, id, length + 1) : NULL;
}

Conversation *conversation_pin(Conversation *conversation) {
        if (conversation->n_pins++ == 0)
                TAILQ_REMOVE(&conversation->table->used, conversation, used);
        return conversation;
}

Conversation *conversation_unpin(Conversation *conversation) {
        Conversations *table;

        if (!conversation || --conversation->n_pins > 0)
                return NULL;

        table = conversation->table;
        if (conversation->state != CONVERSATION_LOADED) {
                forget(conversation);
                return NULL;
        }
        TAILQ_INSERT_TAIL(&table->used, conversation, used);
        while (HASH_COUNT(table->entries) > *table->limit && !TAILQ_EMPTY(&table->used)) {
                Conversation *oldest = TAILQ_FIRST(&table->used);
                TAILQ_REMOVE(&table->used, oldest, used);
                forget(oldest);
        }
        return NULL;
}

void conversation_set_created(Conversation *conversation, const Sc__Conversation *record) {
        if (conversation->state == CONVERSATION_LOADED)
                return;
        /* A load under way began before the commit and may find nothing: it will see that this is loaded. */
        conversation->state = CONVERSATION_LOADED;
        conversation->kind = record->kind;
        snprintf(conversation->epoch, sizeof conversation->epoch, "%s", record->epoch);
        conversation->sequence.last_seq = 0;
}

/* --- members --- */

Member *conversation_find_member(const Conversation *conversation, const char *user) {
        Member *member;

        HASH_FIND_STR(conversation->members, user, member);
        return member;
}

void conversation_forget_member(Conversation *conversation, const char *user) {
        Member *member = conversation_find_member(conversation, user);

        if (!member)
                return;
        HASH_DEL(conversation->members, member);
        free(member);
}

static Member *add_member(Conversation *conversation, const char *user) {
        size_t size = strlen(user) + 1;
        Member *member = calloc(1, sizeof *member + size);

        if (!member)
                return NULL;
        memcpy(member->user, user, size);
        HASH_ADD_STR(conversation->members, user, member);
        if (!member->hh.tbl)
                return mfree(member);

        /* uthash keeps them in the order of their coming. */
        if (HASH_COUNT(conversation->members) > CONVERSATION_MAX_MEMBERS) {
                Member *oldest = conversation->members;
                HASH_DEL(conversation->members, oldest);
                free(oldest);
        }
        return member;
}

Member *conversation_note_member(Conversation *conversation, const Sc__Member *record) {
        Member *member = conversation_find_member(conversation, record->user)
                                 ?: add_member(conversation, record->user);

        /* Two reads may come back in another order than the writes between them. */
        if (member && record->version >= member->version) {
                member->read_seq = record->read_seq;
                member->version = record->version;
                member->joined_at = record->joined_at;
        }
        return member;
}

void personal_conversation_id(const char *user, char ret[static CONVERSATION_ID_SIZE]) {
        snprintf(ret, CONVERSATION_ID_SIZE, "#%s", user);
}

/* --- loading --- */

typedef struct Load Load;

/* A load that waits for one entry. */
struct LoadWaiter {
        Load *load;
        LIST_ENTRY(LoadWaiter) of_conversation;
};

/* One conversations_load() that had to wait. */
struct Load {
        ConversationsLoaded done;
        void *userdata;
        size_t n_waiting; /* plus one while it is being set up */
        int r;
        LoadWaiter waiters[];
};

/* One read of the store, for several entries. */
typedef struct Fetch {
        size_t n;
        Conversation *items[CONVERSATIONS_LOAD_CHUNK];
} Fetch;

static void load_advance(Load *load, int r) {
        if (r < 0 && load->r == 0)
                load->r = r;
        if (--load->n_waiting > 0)
                return;
        load->done(load->r, load->userdata);
        free(load);
}

static void conversation_loaded(Conversation *conversation, int r) {
        LoadWaiter *waiter;

        if (conversation->state == CONVERSATION_LOADING)
                conversation->state = CONVERSATION_UNKNOWN;
        conversation_pin(conversation);
        while ((waiter = LIST_FIRST(&conversation->waiters))) {
                LIST_REMOVE(waiter, of_conversation);
                load_advance(waiter->load, r);
        }
        conversation_unpin(conversation);
}

static void take_in(Conversation *conversation, const StoreRows *record, const StoreRows *last_message) {
        const Sc__Conversation *stored;

        if (conversation->state != CONVERSATION_LOADING || record->n == 0)
                return;
        stored = (const Sc__Conversation *) record->records[0];
        conversation->state = CONVERSATION_LOADED;
        conversation->kind = stored->kind;
        snprintf(conversation->epoch, sizeof conversation->epoch, "%s", stored->epoch);
        conversation->sequence.last_seq =
                last_message->n > 0 ? ((const Sc__Message *) last_message->records[0])->seq : 0;
}

static void on_fetched(int r, const StoreRows *rows, size_t n, void *userdata) {
        _cleanup_free_ Fetch *fetch = userdata;

        /* First all facts, then those who wait for them: they may begin new loads. */
        if (r >= 0)
                for (size_t i = 0; i < fetch->n; i++)
                        take_in(fetch->items[i], &rows[2 * i], &rows[2 * i + 1]);
        for (size_t i = 0; i < fetch->n; i++)
                conversation_loaded(fetch->items[i], r);
}

static int fetch_submit(Conversations *table, Fetch *fetch) {
        Sc__Conversation keys[CONVERSATIONS_LOAD_CHUNK];
        Sc__Message messages[CONVERSATIONS_LOAD_CHUNK];
        StoreRead reads[2 * CONVERSATIONS_LOAD_CHUNK];

        for (size_t i = 0; i < fetch->n; i++) {
                keys[i] = (Sc__Conversation) SC__CONVERSATION__INIT;
                keys[i].id = fetch->items[i]->id;
                messages[i] = (Sc__Message) SC__MESSAGE__INIT;
                messages[i].conversation = fetch->items[i]->id;
                reads[2 * i] =
                        (StoreRead){.info = &sc__conversation__info, .from = &keys[i].base, .n_prefix = 1};
                reads[2 * i + 1] = (StoreRead){.info = &sc__message__info,
                        .from = &messages[i].base,
                        .n_prefix = 1,
                        .descending = true};
        }
        return store_read(table->store, reads, 2 * fetch->n, on_fetched, fetch);
}

/* Begins to load these, all of them CONVERSATION_LOADING. On failure they are as before, and their waiters,
 * so far only the load that asks, are taken off. */
static int begin_fetch(Conversations *table, Conversation *const *items, size_t n) {
        Fetch *fetch = new0(Fetch, 1);
        int r = -ENOMEM;

        if (fetch) {
                fetch->n = n;
                memcpy(fetch->items, items, n * sizeof *items);
                r = fetch_submit(table, fetch);
        }
        if (r < 0) {
                free(fetch);
                for (size_t i = 0; i < n; i++)
                        conversation_loaded(items[i], r);
        }
        return r;
}

static void load_begin(Load *load, Conversations *table, Conversation *const *items, size_t n) {
        Conversation *missing[CONVERSATIONS_LOAD_CHUNK];
        size_t n_missing = 0;

        for (size_t i = 0; i < n; i++) {
                LoadWaiter *waiter = &load->waiters[i];

                if (items[i]->state == CONVERSATION_LOADED)
                        continue;
                waiter->load = load;
                load->n_waiting++;
                LIST_INSERT_HEAD(&items[i]->waiters, waiter, of_conversation);
                if (items[i]->state == CONVERSATION_LOADING)
                        continue;
                items[i]->state = CONVERSATION_LOADING;
                missing[n_missing++] = items[i];
                if (n_missing == CONVERSATIONS_LOAD_CHUNK) {
                        (void) begin_fetch(table, missing, n_missing);
                        n_missing = 0;
                }
        }
        if (n_missing > 0)
                (void) begin_fetch(table, missing, n_missing);
}

int conversations_load(Conversations *table, Conversation *const *items, size_t n, ConversationsLoaded done,
        void *userdata) {
        bool complete = true;
        Load *load;

        for (size_t i = 0; i < n; i++)
                complete = complete && items[i]->state == CONVERSATION_LOADED;
        if (complete)
                return 1;

        load = calloc(1, sizeof *load + n * sizeof(LoadWaiter));
        if (!load)
                return -ENOMEM;
        *load = (Load){.done = done, .userdata = userdata, .n_waiting = 1};
        load_begin(load, table, items, n);

        /* Nothing was begun that we could wait for: answer at once, as nobody was called yet. */
        if (--load->n_waiting == 0) {
                int r = load->r;
                free(load);
                return r < 0 ? r : 1;
        }
        return 0;
}
