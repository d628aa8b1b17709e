/* SPDX-License-Identifier: Apache-2.0 */
#include "group/conversation/load.h"

#include <stdio.h>

#include "group/conversation/flush.h"
#include "schema-tables.h"

#define LOAD_CHUNK 128U /* conversations of one submission */
#define LOAD_MAX_BEHIND 256U /* entries behind a head read at once */
#define LOAD_ARENA_LIMIT (8U << 20) /* of what we allocate; rows come on top */

/* load_result of one whose load was cancelled: those who waited load it themselves. */
#define LOAD_AGAIN (-EAGAIN)

enum {
        READ_CONVERSATION,
        READ_LAST,
        READ_HEAD,
        N_READS,
};

/* What the reads of one conversation point at until they are submitted. */
typedef struct LoadKeys {
        Sc__Conversation conversation;
        Sc__Message last;
        Sc__ConversationHead head;
} LoadKeys;

static void make_reads(const Conversation *conversation, LoadKeys *keys, StoreRead *reads) {
        keys->conversation = (Sc__Conversation) SC__CONVERSATION__INIT;
        keys->last = (Sc__Message) SC__MESSAGE__INIT;
        keys->head = (Sc__ConversationHead) SC__CONVERSATION_HEAD__INIT;
        keys->conversation.id = keys->last.conversation = keys->head.conversation =
                (char *) conversation->id;
        reads[READ_CONVERSATION] = (StoreRead){
                .info = &sc__conversation__info, .from = &keys->conversation.base, .n_prefix = 1};
        reads[READ_LAST] = (StoreRead){
                .info = &sc__message__info, .from = &keys->last.base, .n_prefix = 1, .descending = true};
        reads[READ_HEAD] =
                (StoreRead){.info = &sc__conversation_head__info, .from = &keys->head.base, .n_prefix = 1};
}

static void take_in(Conversation *conversation, const StoreRows *rows) {
        const Sc__Conversation *stored;
        const Sc__ConversationHead *head;
        const Sc__Message *last;

        if (rows[READ_CONVERSATION].n == 0)
                return;
        stored = (const Sc__Conversation *) rows[READ_CONVERSATION].records[0];
        conversation->kind = stored->kind;
        snprintf(conversation->epoch, sizeof(conversation->epoch), "%s", stored->epoch);
        conversation->last_at = stored->created_at;
        conversation->load_result = 1;
        if (rows[READ_LAST].n > 0) {
                last = (const Sc__Message *) rows[READ_LAST].records[0];
                conversation->last_at = MAX(conversation->last_at, last->created_at);
                sequence_init(&conversation->sequence, last->seq, last->count);
        }
        /* A personal conversation has none, and its entries have no senders. Any other without one (it was empty when
         * a store of 0.1 was brought up to date) has only entries that were not flushed. */
        conversation->has_head = rows[READ_HEAD].n > 0 && !is_personal_id(conversation->id);
        conversation->stored_head_seq =
                is_personal_id(conversation->id) ? conversation->sequence.last_seq : 0;
        if (conversation->has_head) {
                head = (const Sc__ConversationHead *) rows[READ_HEAD].records[0];
                conversation->stored_head_seq = head->last_seq;
                conversation->last_at = MAX(conversation->last_at, head->last_at);
        }
}

static bool is_behind(const Conversation *conversation) {
        return conversation->stored_head_seq < conversation->sequence.last_seq;
}

/* --- one that was killed before it flushed: the entries behind the head --- */

typedef struct Behind {
        Conversation *conversation;
        uint64_t seq; /* taken in up to here */
} Behind;

static int read_behind(Store *store, Arena *arena, const Behind *items, size_t n, StoreRows **ret) {
        Sc__Message *from = arena_new(arena, Sc__Message, n);
        StoreRead *reads = arena_new(arena, StoreRead, n);

        if (!from || !reads)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                from[i] = (Sc__Message) SC__MESSAGE__INIT;
                from[i].conversation = items[i].conversation->id;
                from[i].seq = items[i].seq;
                reads[i] = (StoreRead){.info = &sc__message__info,
                        .from = &from[i].base,
                        .n_prefix = 1,
                        .after = true,
                        .limit = LOAD_MAX_BEHIND};
        }
        return store_read(store, arena, reads, n, ret);
}

/* Page by page, each page of all of them with one submission. */
static int catch_up(Store *store, Behind *items, size_t n) {
        while (n > 0) {
                _cleanup_arena_ Arena arena;
                size_t n_left = 0;
                StoreRows *rows;

                arena_init(&arena, LOAD_ARENA_LIMIT);
                int r = read_behind(store, &arena, items, n, &rows);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < n; i++) {
                        for (size_t k = 0; k < rows[i].n; k++) {
                                const Sc__Message *entry = (const Sc__Message *) rows[i].records[k];
                                conversation_note_sender(items[i].conversation, entry);
                                items[i].seq = entry->seq;
                        }
                        if (rows[i].more && rows[i].n > 0)
                                items[n_left++] = items[i];
                }
                n = n_left;
        }
        return 0;
}

/* --- loading --- */

static int fetch(GroupRole *role, Arena *arena, Conversation *const *items, size_t n) {
        LoadKeys *keys = arena_new(arena, LoadKeys, n);
        StoreRead *reads = arena_new(arena, StoreRead, n * N_READS);
        Behind *behind = arena_new(arena, Behind, n);
        size_t n_behind = 0;
        StoreRows *rows;

        if (!keys || !reads || !behind)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                make_reads(items[i], &keys[i], &reads[i * N_READS]);
        int r = store_read(role->store, arena, reads, n * N_READS, &rows);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                /* It may have been created meanwhile. */
                if (items[i]->state != CONVERSATION_LOADING)
                        continue;
                take_in(items[i], &rows[i * N_READS]);
                if (is_behind(items[i]))
                        behind[n_behind++] = (Behind){items[i], items[i]->stored_head_seq};
        }
        r = catch_up(role->store, behind, n_behind);
        /* Only now: the head that is stored must not pass cursors that are not found yet. */
        for (size_t i = 0; i < n && r >= 0; i++)
                if (is_behind(items[i]))
                        conversation_flush_later(items[i]);
        return r;
}

static void end_load(Conversation *conversation, int r) {
        if (conversation->state == CONVERSATION_LOADING) {
                if (r < 0)
                        conversation->load_result = fiber_check_cancelled() < 0 ? LOAD_AGAIN : r;
                conversation->state =
                        conversation->load_result > 0 ? CONVERSATION_LOADED : CONVERSATION_UNKNOWN;
        }
        fiber_queue_wake(&conversation->load_waiters);
}

/* Those were unknown when we came; nobody else loads them. */
static int load_chunk(GroupRole *role, Conversation *const *items, size_t n) {
        _cleanup_arena_ Arena arena;
        int r;

        for (size_t i = 0; i < n; i++) {
                items[i]->state = CONVERSATION_LOADING;
                items[i]->load_result = 0;
        }
        arena_init(&arena, LOAD_ARENA_LIMIT);
        r = fetch(role, &arena, items, n);
        for (size_t i = 0; i < n; i++)
                end_load(items[i], r);
        return r;
}

static int wait_for_load(Conversation *conversation) {
        while (conversation->state == CONVERSATION_LOADING) {
                int r = fiber_queue_wait(&conversation->load_waiters, UINT64_MAX);
                if (r < 0)
                        return r;
        }
        return conversation->state == CONVERSATION_LOADED ? 1 : conversation->load_result;
}

int conversation_load(Conversation *conversation) {
        int r = LOAD_AGAIN;

        while (r == LOAD_AGAIN)
                switch (conversation->state) {
                case CONVERSATION_LOADED:
                        return 1;
                case CONVERSATION_LOADING:
                        r = wait_for_load(conversation);
                        break;
                case CONVERSATION_UNKNOWN:
                        r = load_chunk(conversation->role, &conversation, 1);
                        if (r >= 0)
                                r = conversation->state == CONVERSATION_LOADED;
                }
        return r;
}

int conversations_load(GroupRole *role, Conversation *const *items, size_t n) {
        Conversation *chunk[LOAD_CHUNK];
        size_t n_chunk = 0;
        int r = 0;

        for (size_t i = 0; i < n && r >= 0; i++) {
                if (items[i]->state == CONVERSATION_UNKNOWN)
                        chunk[n_chunk++] = items[i];
                if (n_chunk > 0 && (n_chunk == LOAD_CHUNK || i + 1 == n)) {
                        r = load_chunk(role, chunk, n_chunk);
                        n_chunk = 0;
                }
        }
        /* And those that others load, or failed to load meanwhile. */
        for (size_t i = 0; i < n && r >= 0; i++)
                if (items[i]->state == CONVERSATION_LOADING ||
                        (items[i]->state == CONVERSATION_UNKNOWN && items[i]->load_result < 0))
                        r = conversation_load(items[i]);
        return MIN(r, 0);
}

int conversation_open(GroupRole *role, const char *id, Conversation **ret) {
        _cleanup_conversation_ Conversation *conversation = conversations_get(role->conversations, id);

        if (!conversation)
                return -ENOMEM;
        int r = conversation_load(conversation);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(conversation);
        return r;
}
