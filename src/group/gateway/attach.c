/* SPDX-License-Identifier: Apache-2.0 */
#include "group/gateway/attach.h"

#include "group/conversation/load.h"
#include "group/delivery/online.h"
#include "group/inbox/inbox.h"
#include "schema-tables.h"
#include "service-handlers.h"
#include "util/string-util.h"

/* The client is registered at once, so that a conversation opened meanwhile reaches it. Then the user's
 * conversations are found in the inbox and subscribed to; only then is read where they stand. So a message is
 * either in the answer or committed later and pushed, possibly both; a gateway orders and drops by seq. A
 * session that is ended meanwhile is kicked, as its client is registered.
 *
 * The methods are hot because of when they begin, not how they go on: attaching and detaching take effect in
 * the order in which the gateway asked, and however many clients come back at once, none is refused. They wait
 * here, without a stack, for one of a few fibers. */

#define ATTACH_ARENA_LIMIT (1U << 20) /* beside the rows of one read */

typedef struct Attach {
        Call *call; /* in whose arena all of this is */
        GroupRole *role;
        const Sc__AttachRequest *request;
        uint64_t serial; /* of the client's registration */
        const Sc__Position **positions; /* sorted by conversation */

        char **ids; /* the user's conversations */
        size_t n_ids;

        /* Those of a chunk whose messages are read: */
        Sc__Subscription *recovering[ATTACH_CHUNK];
        uint64_t from_seq[ATTACH_CHUNK];
        size_t n_recovering;

        Sc__AttachResponse response; /* with room for all subscriptions */
        size_t size; /* of the answer so far, packed */
        bool full; /* messages of a conversation did not fit into it: no more are read */
        TAILQ_ENTRY(Attach) entry; /* while it waits */
} Attach;

struct AttachQueue {
        TAILQ_HEAD(, Attach) waiting;
        unsigned n_running; /* fibers */
};

/* --- where the client stands --- */

static int compare_positions(const void *a, const void *b) {
        const Sc__Position *const *left = a, *const *right = b;
        return strcmp((*left)->conversation, (*right)->conversation);
}

static int sort_positions(Attach *attach) {
        const Sc__AttachRequest *request = attach->request;

        attach->positions = arena_new(&attach->call->arena, const Sc__Position *, request->n_positions + 1);
        if (!attach->positions)
                return -ENOMEM;
        for (size_t i = 0; i < request->n_positions; i++)
                attach->positions[i] = request->positions[i];
        qsort(attach->positions, request->n_positions, sizeof(*attach->positions), compare_positions);
        return 0;
}

static const Sc__Position *find_position(const Attach *attach, const char *conversation) {
        const Sc__Position key = {.conversation = (char *) conversation}, *key_pointer = &key;
        const Sc__Position **found = bsearch(&key_pointer, attach->positions, attach->request->n_positions,
                sizeof(*attach->positions), compare_positions);
        return found ? *found : NULL;
}

/* --- recovery of a chunk of conversations --- */

static Sc__Message *copy_message(Arena *arena, const Sc__Message *message) {
        size_t size = protobuf_c_message_get_packed_size(&message->base);
        _cleanup_free_ uint8_t *packed = malloc(size + 1);
        ProtobufCMessage *copy;

        if (!packed)
                return NULL;
        protobuf_c_message_pack(&message->base, packed);
        if (arena_unpack(arena, &sc__message__descriptor, packed, size, &copy) < 0)
                return NULL;
        return (Sc__Message *) copy;
}

/* Do these rows hold everything from behind `from` to the last message there was when we subscribed? */
static bool is_complete(const StoreRows *rows, uint64_t from, uint64_t last_seq) {
        uint64_t last = rows->n > 0 ? ((const Sc__Message *) rows->records[rows->n - 1])->seq : from;
        return last >= last_seq && last - from == rows->n;
}

/* Copies them: what does not fit is read all the same, and must not stay. */
static int take_messages(
        Attach *attach, Sc__Subscription *subscription, uint64_t from, const StoreRows *rows) {
        Arena *arena = &attach->call->arena;
        size_t size = 0;

        if (!is_complete(rows, from, subscription->last_seq))
                return 0;
        for (size_t i = 0; i < rows->n; i++)
                size += protobuf_c_message_get_packed_size(rows->records[i]) + 6;
        if (attach->size + size > GROUP_MAX_RESPONSE) {
                attach->full = true;
                return 0;
        }
        Sc__Message **messages = arena_new(arena, Sc__Message *, rows->n);
        if (!messages)
                return -ENOMEM;
        for (size_t i = 0; i < rows->n; i++) {
                messages[i] = copy_message(arena, (const Sc__Message *) rows->records[i]);
                if (!messages[i])
                        return -ENOMEM;
        }
        attach->size += size;
        subscription->messages = messages;
        subscription->n_messages = rows->n;
        subscription->last_seq = messages[rows->n - 1]->seq;
        subscription->recovered = true;
        return 0;
}

/* What of the conversation is to be recovered: 1: messages have to be read, 0: nothing. */
static int plan_recovery(const Attach *attach, Sc__Subscription *subscription, uint64_t *ret_from) {
        const Sc__Position *position = find_position(attach, subscription->conversation);

        if (!position)
                return 0;
        subscription->recovering = true;
        if (!streq(position->epoch, subscription->epoch) || position->seq > subscription->last_seq)
                return 0;
        if (position->seq == subscription->last_seq) {
                subscription->recovered = true;
                return 0;
        }
        *ret_from = position->seq;
        return !attach->full &&
               subscription->last_seq - position->seq <= attach->role->conf->group_max_recovery;
}

static Sc__Subscription *add_subscription(Attach *attach, const Conversation *conversation) {
        Arena *arena = &attach->call->arena;
        Sc__Subscription *subscription = arena_new(arena, Sc__Subscription, 1);

        if (!subscription)
                return NULL;
        *subscription = (Sc__Subscription) SC__SUBSCRIPTION__INIT;
        subscription->conversation = arena_strdup(arena, conversation->id);
        subscription->kind = conversation->kind;
        subscription->epoch = arena_strdup(arena, conversation->epoch);
        subscription->last_seq = conversation->sequence.last_seq;
        if (!subscription->conversation || !subscription->epoch)
                return NULL;
        attach->response.subscriptions[attach->response.n_subscriptions++] = subscription;
        /* With room for tag, length and what the recovery sets. */
        attach->size += protobuf_c_message_get_packed_size(&subscription->base) + 24;
        return subscription;
}

static int read_messages(Attach *attach) {
        _cleanup_arena_ Arena arena;
        Sc__Message from[ATTACH_CHUNK];
        StoreRead reads[ATTACH_CHUNK];
        StoreRows *rows;

        arena_init(&arena, ATTACH_ARENA_LIMIT);
        if (attach->n_recovering == 0)
                return 0;
        for (size_t i = 0; i < attach->n_recovering; i++) {
                from[i] = (Sc__Message) SC__MESSAGE__INIT;
                from[i].conversation = attach->recovering[i]->conversation;
                from[i].seq = attach->from_seq[i];
                reads[i] = (StoreRead){
                        .info = &sc__message__info,
                        .from = &from[i].base,
                        .n_prefix = 1,
                        .after = true,
                        .limit = (unsigned) attach->role->conf->group_max_recovery,
                        .max_bytes = ATTACH_MAX_RECOVERY_BYTES,
                };
        }
        int r = store_read(attach->role->store, &arena, reads, attach->n_recovering, &rows);
        for (size_t i = 0; i < attach->n_recovering && r >= 0; i++)
                r = take_messages(attach, attach->recovering[i], attach->from_seq[i], &rows[i]);
        return MIN(r, 0);
}

typedef struct Chunk {
        Conversation *conversations[ATTACH_CHUNK]; /* pinned */
        size_t n;
} Chunk;

static void chunk_done(Chunk *chunk) {
        for (size_t i = 0; i < chunk->n; i++)
                conversation_unpin(chunk->conversations[i]);
}

static int recover_chunk(Attach *attach, char *const *ids, size_t n) {
        _cleanup_(chunk_done) Chunk chunk = {};

        for (; chunk.n < n; chunk.n++) {
                chunk.conversations[chunk.n] = conversations_get(attach->role->conversations, ids[chunk.n]);
                if (!chunk.conversations[chunk.n])
                        return -ENOMEM;
        }
        int r = conversations_load(attach->role, chunk.conversations, chunk.n);
        if (r < 0)
                return r;
        attach->n_recovering = 0;
        for (size_t i = 0; i < chunk.n; i++) {
                Sc__Subscription *subscription;

                if (chunk.conversations[i]->state != CONVERSATION_LOADED)
                        continue;
                subscription = add_subscription(attach, chunk.conversations[i]);
                if (!subscription)
                        return -ENOMEM;
                if (plan_recovery(attach, subscription, &attach->from_seq[attach->n_recovering]) > 0)
                        attach->recovering[attach->n_recovering++] = subscription;
        }
        return read_messages(attach);
}

/* --- the user's conversations --- */

/* The client may have gone while we waited, and with it the user. */
static int check_attached(const Attach *attach) {
        if (!online_is_attached(attach->role->online, attach->request->client, attach->serial))
                return call_refuse(attach->call, ERROR_UNAVAILABLE, "the connection has gone");
        return 0;
}

static int subscribe_all(Attach *attach, Sc__InboxEntry *const *entries, size_t n) {
        Online *online = attach->role->online;
        const char *user = attach->request->user;
        char personal[CONVERSATION_ID_SIZE];

        personal_conversation_id(user, personal);
        int r = online_subscribe(online, user, personal);
        for (size_t i = 0; i < n && r >= 0; i++)
                r = online_subscribe(online, user, entries[i]->conversation);
        if (r >= 0)
                online_set_complete(online, user);
        return r;
}

/* All that the user hears, which includes what was joined since the inbox was read. */
static int list_subscribed(Attach *attach) {
        const Online *online = attach->role->online;
        const char *user = attach->request->user;
        Arena *arena = &attach->call->arena;
        size_t n = online_conversations(online, user, NULL, 0);

        attach->ids = arena_new(arena, char *, n + 1);
        attach->response.subscriptions = arena_new(arena, Sc__Subscription *, n + 1);
        if (!attach->ids || !attach->response.subscriptions)
                return -ENOMEM;
        attach->n_ids = online_conversations(online, user, (const char **) attach->ids, n);
        for (size_t i = 0; i < attach->n_ids; i++) {
                attach->ids[i] = arena_strdup(arena, attach->ids[i]);
                if (!attach->ids[i])
                        return -ENOMEM;
        }
        return 0;
}

/* Of whoever comes first: reads the inbox, and creates its log if it is not there. May suspend. */
static int read_inbox(Attach *attach, bool *ret_ended, Sc__InboxEntry ***ret, size_t *ret_n) {
        const Sc__AttachRequest *request = attach->request;
        _cleanup_conversation_ Conversation *inbox = NULL;

        int r = inbox_read_attaching(attach->role, &attach->call->arena, request->user, request->session,
                ATTACH_MAX_CONVERSATIONS, ret_ended, ret, ret_n);
        if (r < 0 || *ret_ended)
                return r;
        return inbox_open(attach->role, request->user, &inbox);
}

/* May suspend. */
static int find_conversations(Attach *attach) {
        const Sc__AttachRequest *request = attach->request;
        Sc__InboxEntry **entries = NULL;
        bool ended = false;
        size_t n = 0;
        int r;

        /* Further clients of the user hear what the first one does, but the session has to be looked at. */
        if (online_is_complete(attach->role->online, request->user)) {
                r = inbox_has_ended(attach->role, &attach->call->arena, request->user, request->session);
                ended = r > 0;
        } else
                r = read_inbox(attach, &ended, &entries, &n);
        if (r < 0)
                return r;
        if (ended)
                return call_refuse(attach->call, ERROR_SESSION_REVOKED, "session");
        r = check_attached(attach);
        if (r < 0)
                return r;
        r = subscribe_all(attach, entries, n);
        if (r < 0)
                return r;
        return list_subscribed(attach);
}

static int recover_all(Attach *attach) {
        int r = fiber_check_cancelled();
        if (r >= 0)
                r = find_conversations(attach);
        for (size_t i = 0; i < attach->n_ids && r >= 0; i += ATTACH_CHUNK)
                r = recover_chunk(attach, attach->ids + i, MIN(attach->n_ids - i, ATTACH_CHUNK));
        return r;
}

/* --- the queue --- */

int attach_queue_new(AttachQueue **ret) {
        AttachQueue *queue = new0(AttachQueue, 1);

        if (!queue)
                return -ENOMEM;
        TAILQ_INIT(&queue->waiting);
        *ret = queue;
        return 0;
}

AttachQueue *attach_queue_free(AttachQueue *queue) {
        return mfree(queue);
}

static void attach_end(Attach *attach, int r) {
        Online *online = attach->role->online;

        /* A gateway whose attach fails has no client here. */
        if (r < 0 && online_is_attached(online, attach->request->client, attach->serial))
                online_detach(online, attach->request->client, attach->call->origin);
        call_end(attach->call, r, &attach->response.base);
}

/* On a fiber: one after the other until none waits. */
static void run_waiting(void *userdata) {
        GroupRole *role = userdata;
        Attach *attach;

        while ((attach = TAILQ_FIRST(&role->attaches->waiting))) {
                TAILQ_REMOVE(&role->attaches->waiting, attach, entry);
                attach_end(attach, recover_all(attach));
        }
        role->attaches->n_running--;
}

static void fail_waiting(GroupRole *role, int r) {
        Attach *attach;

        while ((attach = TAILQ_FIRST(&role->attaches->waiting))) {
                TAILQ_REMOVE(&role->attaches->waiting, attach, entry);
                attach_end(attach, r);
        }
}

static void on_cancelled(int r, void *userdata) {
        GroupRole *role = userdata;

        role->attaches->n_running--;
        fail_waiting(role, r);
}

static void enqueue(GroupRole *role, Attach *attach) {
        AttachQueue *queue = role->attaches;

        TAILQ_INSERT_TAIL(&queue->waiting, attach, entry);
        if (queue->n_running == ATTACH_MAX_CONCURRENT)
                return;
        queue->n_running++;
        int r = fiber_start(role->fibers,
                &(FiberStart){.main = run_waiting,
                        .cancelled = on_cancelled,
                        .userdata = role,
                        .key = "attach",
                        .internal = true},
                NULL);
        if (r >= 0)
                return;
        /* If others run they will come to it. */
        if (--queue->n_running == 0)
                fail_waiting(role, r);
}

/* --- the handlers --- */

static int register_client(Attach *attach) {
        int r = online_attach(attach->role->online,
                &(OnlineClient){
                        .id = attach->request->client,
                        .user = attach->request->user,
                        .device = attach->request->device,
                        .session = attach->request->session,
                        .gateway = attach->call->origin,
                },
                &attach->serial);
        if (r == -EEXIST)
                return call_refuse(attach->call, ERROR_INVALID_ARGUMENT, "client: belongs to another user");
        return r;
}

static int begin(Call *call, const Sc__AttachRequest *request, Attach **ret) {
        Attach *attach;
        int r;

        if (!call->origin)
                return call_refuse(call, ERROR_PERMISSION_DENIED, "only a gateway attaches connections");
        attach = arena_new(&call->arena, Attach, 1);
        if (!attach)
                return -ENOMEM;
        *attach = (Attach){.call = call, .role = call->role, .request = request};
        attach->response = (Sc__AttachResponse) SC__ATTACH_RESPONSE__INIT;
        r = sort_positions(attach);
        if (r < 0)
                return r;
        r = register_client(attach);
        if (r < 0)
                return r;
        *ret = attach;
        return 0;
}

void handle_gateway_attach(Call *call, const Sc__AttachRequest *request) {
        Attach *attach;

        int r = begin(call, request, &attach);
        if (r < 0)
                return call_end(call, r, NULL);
        enqueue(call->role, attach);
}

void handle_gateway_detach(Call *call, const Sc__DetachRequest *request) {
        Sc__DetachResponse response = SC__DETACH_RESPONSE__INIT;
        GroupRole *role = call->role;

        online_detach(role->online, request->client, call->origin);
        call_return(call, &response.base);
}
