/* SPDX-License-Identifier: Apache-2.0 */

/* gateway.recover: what connections of a gateway missed, as they get it. The messages are written in JSON here,
 * once, so that the gateway has nothing to unpack. */

#include "group/conversation/load.h"
#include "proto/json.h"
#include "schema-tables.h"
#include "service-handlers.h"
#include "util/string-util.h"

#define RECOVER_CHUNK 16U /* conversations read by one submission */
#define RECOVER_MAX_MESSAGES 1000U /* of one conversation on one page */
#define RECOVER_MIN_READ (16U << 10) /* bytes of one conversation, however little room is left */
#define RECOVER_ARENA_LIMIT (64U << 10) /* of what we allocate; rows come on top */

typedef struct Recovery {
        Call *call;
        const Sc__RecoverRequest *request;
        Sc__RecoverResponse *response;
        size_t size; /* of the answer so far */
        Buffer text; /* of one publication */
} Recovery;

static Sc__RecoverResponse__Page *add_page(Recovery *recovery, const Conversation *conversation) {
        Arena *arena = &recovery->call->arena;
        Sc__RecoverResponse__Page *page = arena_new(arena, Sc__RecoverResponse__Page, 1);

        if (!page)
                return NULL;
        *page = (Sc__RecoverResponse__Page) SC__RECOVER_RESPONSE__PAGE__INIT;
        if (conversation->state == CONVERSATION_LOADED) {
                page->epoch = arena_strdup(arena, conversation->epoch);
                page->last_seq = conversation->sequence.last_seq;
        }
        recovery->response->pages[recovery->response->n_pages++] = page;
        return page->epoch ? page : NULL;
}

static int add_publication(Recovery *recovery, Sc__RecoverResponse__Page *page, const Sc__Message *message) {
        Arena *arena = &recovery->call->arena;
        Sc__RecoverResponse__Publication *publication =
                arena_new(arena, Sc__RecoverResponse__Publication, 1);
        Sc__Update update = SC__UPDATE__INIT;

        update.what_case = SC__UPDATE__WHAT_MESSAGE;
        update.message = (Sc__Message *) message;
        recovery->text.size = 0;
        int r = json_write_message(&recovery->text, &sc__update__info, &update.base);
        if (r < 0)
                return r;
        if (!publication)
                return -ENOMEM;
        *publication = (Sc__RecoverResponse__Publication) SC__RECOVER_RESPONSE__PUBLICATION__INIT;
        publication->seq = message->seq;
        publication->sender = arena_strdup(arena, message->sender);
        publication->data.data = arena_memdup(arena, recovery->text.data, recovery->text.size);
        publication->data.len = recovery->text.size;
        if (!publication->sender || !publication->data.data)
                return -ENOMEM;
        page->publications[page->n_publications++] = publication;
        page->last_seq = MAX(page->last_seq, message->seq);
        recovery->size += recovery->text.size + strlen(message->sender) + 16;
        return 0;
}

static bool is_full(const Recovery *recovery) {
        return recovery->size >= GROUP_MAX_PAGE;
}

/* The first message of a page is taken in any case. */
static int fill_page(Recovery *recovery, Sc__RecoverResponse__Page *page, const StoreRows *rows) {
        int r = 0;

        page->publications =
                arena_new(&recovery->call->arena, Sc__RecoverResponse__Publication *, rows->n + 1);
        if (!page->publications)
                return -ENOMEM;
        for (size_t i = 0; i < rows->n && r >= 0 && (!is_full(recovery) || recovery->size == 0); i++)
                r = add_publication(recovery, page, (const Sc__Message *) rows->records[i]);
        return r;
}

typedef struct Chunk {
        Conversation *conversations[RECOVER_CHUNK]; /* pinned */
        size_t n;
} Chunk;

static void chunk_done(Chunk *chunk) {
        for (size_t i = 0; i < chunk->n; i++)
                conversation_unpin(chunk->conversations[i]);
}

static int read_chunk(Recovery *recovery, Arena *arena, const Chunk *chunk, Sc__Position *const *positions,
        StoreRows **ret) {
        GroupRole *role = recovery->call->role;
        size_t room = GROUP_MAX_PAGE - recovery->size;
        StoreRead reads[RECOVER_CHUNK];
        Sc__Message from[RECOVER_CHUNK];

        for (size_t i = 0; i < chunk->n; i++) {
                from[i] = (Sc__Message) SC__MESSAGE__INIT;
                from[i].conversation = positions[i]->conversation;
                from[i].seq = MIN(positions[i]->seq, GROUP_MAX_SEQ);
                reads[i] = (StoreRead){
                        .info = &sc__message__info,
                        .from = &from[i].base,
                        .n_prefix = 1,
                        .after = true,
                        .limit = RECOVER_MAX_MESSAGES,
                        .max_bytes = MAX(room / chunk->n, RECOVER_MIN_READ),
                };
        }
        return store_read(role->store, arena, reads, chunk->n, ret);
}

static int recover_chunk(Recovery *recovery, Sc__Position *const *positions, size_t n) {
        _cleanup_(chunk_done) Chunk chunk = {};
        GroupRole *role = recovery->call->role;
        _cleanup_arena_ Arena arena;
        StoreRows *rows;

        arena_init(&arena, RECOVER_ARENA_LIMIT);
        for (; chunk.n < n; chunk.n++) {
                chunk.conversations[chunk.n] =
                        conversations_get(role->conversations, positions[chunk.n]->conversation);
                if (!chunk.conversations[chunk.n])
                        return -ENOMEM;
        }
        int r = conversations_load(role, chunk.conversations, chunk.n);
        if (r >= 0)
                r = read_chunk(recovery, &arena, &chunk, positions, &rows);
        for (size_t i = 0; i < n && r >= 0 && !is_full(recovery); i++) {
                Sc__RecoverResponse__Page *page = add_page(recovery, chunk.conversations[i]);
                if (!page)
                        return -ENOMEM;
                if (!isempty(page->epoch) && streq(page->epoch, positions[i]->epoch))
                        r = fill_page(recovery, page, &rows[i]);
        }
        return MIN(r, 0);
}

int handle_gateway_recover(Call *call, const Sc__RecoverRequest *request, Sc__RecoverResponse *response) {
        Recovery recovery = {.call = call, .request = request, .response = response};
        int r = 0;

        response->pages = arena_new(&call->arena, Sc__RecoverResponse__Page *, request->n_positions + 1);
        if (!response->pages)
                return -ENOMEM;
        for (size_t i = 0; i < request->n_positions && r >= 0 && !is_full(&recovery); i += RECOVER_CHUNK)
                r = recover_chunk(
                        &recovery, request->positions + i, MIN(request->n_positions - i, RECOVER_CHUNK));
        buffer_done(&recovery.text);
        return r;
}
