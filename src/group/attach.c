/* SPDX-License-Identifier: Apache-2.0 */
#include "group/attach.h"

#include "group/event.h"
#include "schema-tables.h"
#include "service-handlers.h"
#include "util/string-util.h"

/* The client is registered first, so that a conversation opened meanwhile reaches it. Then the user's
 * conversations are found and subscribed to; only then is read where they stand. So a message is either in
 * the answer or committed later and pushed, possibly both; a gateway orders and drops by seq. */

#define MEMBERS_PAGE 1000U

struct Attach {
        GroupRole *role;
        Call *call; /* in whose arena this is, and all that it holds */
        const Sc__AttachRequest *request;
        uint64_t serial; /* of the client's registration */
        const Sc__Position **positions; /* sorted by conversation */

        char **ids; /* the user's conversations */
        size_t n_ids, n_allocated, next;
        bool has_personal;
        Conversation *personal; /* pinned while it is created */
        Create create;

        Conversation *chunk[ATTACH_CHUNK]; /* pinned */
        size_t n_chunk;
        Sc__Subscription *recovering[ATTACH_CHUNK]; /* those of the chunk whose messages are read */
        uint64_t from_seq[ATTACH_CHUNK];
        size_t n_recovering;

        Sc__Subscription **subscriptions;
        size_t n_subscriptions;
        size_t size; /* of the answer so far, packed */
        TAILQ_ENTRY(Attach) entry; /* while it waits */
};

static void attach_run(Attach *attach);
static void begin_waiting(GroupRole *role);

/* --- the end --- */

static void unpin_chunk(Attach *attach) {
        for (size_t i = 0; i < attach->n_chunk; i++)
                conversation_unpin(attach->chunk[i]);
        attach->n_chunk = 0;
}

static void attach_release(Attach *attach) {
        unpin_chunk(attach);
        attach->personal = conversation_unpin(attach->personal);
        attach->role->n_attaching--;
}

/* A gateway whose attach fails has no client here. */
static void forget_client(Attach *attach) {
        if (online_is_attached(attach->role->online, attach->request->client, attach->serial))
                online_detach(attach->role->online, attach->request->client, attach->call->origin);
}

static void attach_fail(Attach *attach, int r) {
        GroupRole *role = attach->role;

        forget_client(attach);
        attach_release(attach);
        if (r == -ENOTCONN)
                call_fail(attach->call, ERROR_UNAVAILABLE, "%s", "the connection has gone");
        else
                call_fail_errno(attach->call, r, "attach a connection");
        begin_waiting(role);
}

static void attach_return(Attach *attach) {
        Sc__AttachResponse response = SC__ATTACH_RESPONSE__INIT;
        GroupRole *role = attach->role;

        response.subscriptions = attach->subscriptions;
        response.n_subscriptions = attach->n_subscriptions;
        attach_release(attach);
        call_return(attach->call, &response.base);
        begin_waiting(role);
}

/* --- recovery: conversations chunk by chunk --- */

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
        qsort(attach->positions, request->n_positions, sizeof *attach->positions, compare_positions);
        return 0;
}

static const Sc__Position *find_position(const Attach *attach, const char *conversation) {
        const Sc__Position key = {.conversation = (char *) conversation}, *key_pointer = &key;
        const Sc__Position **found = bsearch(&key_pointer, attach->positions, attach->request->n_positions,
                sizeof *attach->positions, compare_positions);
        return found ? *found : NULL;
}

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

static void take_messages(
        Attach *attach, Sc__Subscription *subscription, uint64_t from, const StoreRows *rows) {
        Arena *arena = &attach->call->arena;
        size_t size = 0;

        if (!is_complete(rows, from, subscription->last_seq))
                return;
        for (size_t i = 0; i < rows->n; i++)
                size += protobuf_c_message_get_packed_size(rows->records[i]) + 6;
        if (attach->size + size > GROUP_MAX_RESPONSE)
                return;
        Sc__Message **messages = arena_new(arena, Sc__Message *, rows->n);
        for (size_t i = 0; messages && i < rows->n; i++) {
                messages[i] = copy_message(arena, (const Sc__Message *) rows->records[i]);
                if (!messages[i])
                        return;
        }
        if (!messages)
                return;

        attach->size += size;
        subscription->messages = messages;
        subscription->n_messages = rows->n;
        subscription->last_seq = messages[rows->n - 1]->seq;
        subscription->recovered = true;
}

static void on_recovered(int r, const StoreRows *rows, size_t n, void *userdata) {
        Attach *attach = userdata;

        if (r < 0)
                return attach_fail(attach, r);
        for (size_t i = 0; i < attach->n_recovering; i++)
                take_messages(attach, attach->recovering[i], attach->from_seq[i], &rows[i]);
        attach_run(attach);
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
        return subscription->last_seq - position->seq <= attach->role->conf->group_max_recovery;
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
        attach->subscriptions[attach->n_subscriptions++] = subscription;
        /* With room for tag, length and what the recovery sets. */
        attach->size += protobuf_c_message_get_packed_size(&subscription->base) + 24;
        return subscription;
}

static int submit_recovery(Attach *attach) {
        Sc__Message from[ATTACH_CHUNK];
        StoreRead reads[ATTACH_CHUNK];

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
        return store_read(attach->role->store, reads, attach->n_recovering, on_recovered, attach);
}

/* The chunk is loaded. 1: done with it, 0: goes on later. */
static int chunk_recover(Attach *attach) {
        attach->n_recovering = 0;
        for (size_t i = 0; i < attach->n_chunk; i++) {
                const Conversation *conversation = attach->chunk[i];
                Sc__Subscription *subscription;

                /* A member without its conversation is no conversation: creating it was cut short. */
                if (conversation->state != CONVERSATION_LOADED)
                        continue;
                subscription = add_subscription(attach, conversation);
                if (!subscription)
                        return -ENOMEM;
                if (plan_recovery(attach, subscription, &attach->from_seq[attach->n_recovering]) > 0)
                        attach->recovering[attach->n_recovering++] = subscription;
        }
        unpin_chunk(attach);
        if (attach->n_recovering == 0)
                return 1;
        int r = submit_recovery(attach);
        return MIN(r, 0);
}

static void on_chunk_loaded(int r, void *userdata) {
        Attach *attach = userdata;

        if (r >= 0)
                r = chunk_recover(attach);
        if (r < 0)
                attach_fail(attach, r);
        else if (r > 0)
                attach_run(attach);
}

static int chunk_pin(Attach *attach) {
        while (attach->n_chunk < ATTACH_CHUNK && attach->next < attach->n_ids) {
                Conversation *conversation =
                        conversations_get(attach->role->conversations, attach->ids[attach->next++]);
                if (!conversation)
                        return -ENOMEM;
                attach->chunk[attach->n_chunk++] = conversation;
        }
        return 0;
}

static void attach_run(Attach *attach) {
        while (attach->next < attach->n_ids) {
                int r = chunk_pin(attach);
                if (r >= 0)
                        r = conversations_load(attach->role->conversations, attach->chunk, attach->n_chunk,
                                on_chunk_loaded, attach);
                if (r > 0)
                        r = chunk_recover(attach);
                if (r < 0)
                        return attach_fail(attach, r);
                if (r == 0)
                        return;
        }
        attach_return(attach);
}

/* --- the user's conversations --- */

/* All that the user hears, which includes what was opened since the members were read. */
static int list_subscribed(Attach *attach) {
        GroupRole *role = attach->role;
        const char *user = attach->request->user;
        Arena *arena = &attach->call->arena;
        size_t n = online_conversations(role->online, user, NULL, 0);

        attach->ids = arena_new(arena, char *, n + 1);
        attach->subscriptions = arena_new(arena, Sc__Subscription *, n + 1);
        if (!attach->ids || !attach->subscriptions)
                return -ENOMEM;
        attach->n_ids = online_conversations(role->online, user, (const char **) attach->ids, n);
        for (size_t i = 0; i < attach->n_ids; i++) {
                attach->ids[i] = arena_strdup(arena, attach->ids[i]);
                if (!attach->ids[i])
                        return -ENOMEM;
        }
        return 0;
}

static int subscribe_all(Attach *attach) {
        GroupRole *role = attach->role;

        if (!online_is_attached(role->online, attach->request->client, attach->serial))
                return -ENOTCONN;
        for (size_t i = 0; i < attach->n_ids; i++) {
                int r = online_subscribe(role->online, attach->request->user, attach->ids[i]);
                if (r < 0)
                        return r;
        }
        online_set_complete(role->online, attach->request->user);
        return 0;
}

static void members_known(Attach *attach) {
        int r;

        r = subscribe_all(attach);
        if (r >= 0)
                r = list_subscribed(attach);
        if (r < 0)
                return attach_fail(attach, r);
        attach_run(attach);
}

static int add_id(Attach *attach, const char *id) {
        Arena *arena = &attach->call->arena;

        if (attach->n_ids == attach->n_allocated) {
                size_t n = MAX(attach->n_allocated * 2, (size_t) 64);
                char **ids = arena_new(arena, char *, n);
                if (!ids)
                        return -ENOMEM;
                if (attach->n_ids > 0)
                        memcpy(ids, attach->ids, attach->n_ids * sizeof *ids);
                attach->ids = ids;
                attach->n_allocated = n;
        }
        attach->ids[attach->n_ids] = arena_strdup(arena, id);
        if (!attach->ids[attach->n_ids])
                return -ENOMEM;
        attach->n_ids++;
        return 0;
}

static void on_personal_created(Create *create, int r) {
        Attach *attach = CONTAINER_OF(create, Attach, create);

        if (r >= 0)
                r = add_id(attach, attach->personal->id);
        attach->personal = conversation_unpin(attach->personal);
        if (r < 0)
                return attach_fail(attach, r);
        members_known(attach);
}

static int create_personal(Attach *attach) {
        char id[CONVERSATION_ID_SIZE];

        personal_conversation_id(attach->request->user, id);
        attach->personal = conversations_get(attach->role->conversations, id);
        if (!attach->personal)
                return -ENOMEM;
        personal_create_init(&attach->create, attach->request->user);
        attach->create.conversation = attach->personal;
        attach->create.done = on_personal_created;
        return create_conversation(&attach->create);
}

static int read_members(Attach *attach);

static int take_members(Attach *attach, const StoreRows *rows) {
        for (size_t i = 0; i < rows->n; i++) {
                const char *id = ((const Sc__Member *) rows->records[i])->conversation;
                int r = add_id(attach, id);
                if (r < 0)
                        return r;
                attach->has_personal = attach->has_personal || is_personal_id(id);
        }
        return 0;
}

static void on_members(int r, const StoreRows *rows, size_t n, void *userdata) {
        Attach *attach = userdata;
        bool more = r >= 0 && rows[0].more;

        if (r >= 0)
                r = take_members(attach, &rows[0]);
        if (more && attach->n_ids >= ATTACH_MAX_CONVERSATIONS) {
                log_peer((.user = attach->request->user), LOG_WARNING,
                        "A user has more than %u conversations; the others are not pushed.",
                        ATTACH_MAX_CONVERSATIONS);
                more = false;
        }
        if (r >= 0 && more)
                r = read_members(attach);
        else if (r >= 0 && !attach->has_personal)
                r = create_personal(attach);
        else if (r >= 0)
                return members_known(attach);
        if (r < 0)
                attach_fail(attach, r);
}

/* The next page of them. */
static int read_members(Attach *attach) {
        Sc__Member from = SC__MEMBER__INIT;

        from.user = attach->request->user;
        if (attach->n_ids > 0)
                from.conversation = attach->ids[attach->n_ids - 1];
        return store_read(attach->role->store,
                &(StoreRead){.info = &sc__member__info,
                        .index = attach->role->members_by_user,
                        .from = &from.base,
                        .n_prefix = 1,
                        .after = attach->n_ids > 0,
                        .limit = MEMBERS_PAGE},
                1, on_members, attach);
}

/* --- the beginning --- */

static void attach_begin(Attach *attach) {
        GroupRole *role = attach->role;
        int r;

        role->n_attaching++;
        r = sort_positions(attach);
        if (r >= 0 && online_is_complete(role->online, attach->request->user))
                return members_known(attach);
        if (r >= 0)
                r = read_members(attach);
        if (r < 0)
                attach_fail(attach, r);
}

/* Begins as many as may run. One that ends calls this too, maybe at once: only the outermost loop works, so
 * that a long queue does not become a deep stack. */
static void begin_waiting(GroupRole *role) {
        Attach *attach;

        if (role->beginning_attaches)
                return;
        role->beginning_attaches = true;
        while (role->n_attaching < ATTACH_MAX_CONCURRENT &&
                (attach = TAILQ_FIRST(&role->attaches_waiting))) {
                TAILQ_REMOVE(&role->attaches_waiting, attach, entry);
                attach_begin(attach);
        }
        role->beginning_attaches = false;
}

void attaches_cancel(GroupRole *role) {
        Attach *attach;

        while ((attach = TAILQ_FIRST(&role->attaches_waiting))) {
                TAILQ_REMOVE(&role->attaches_waiting, attach, entry);
                call_fail(attach->call, ERROR_UNAVAILABLE, "%s", "the server is stopping");
        }
}

static int register_client(Attach *attach) {
        return online_attach(attach->role->online,
                &(OnlineClient){
                        .id = attach->request->client,
                        .user = attach->request->user,
                        .device = attach->request->device,
                        .session = attach->request->session,
                        .gateway = attach->call->origin,
                },
                &attach->serial);
}

void handle_gateway_attach(Call *call, const Sc__AttachRequest *request) {
        Attach *attach;
        int r;

        if (!call->origin)
                return call_fail(call, ERROR_PERMISSION_DENIED, "%s", "only a gateway attaches connections");
        attach = arena_new(&call->arena, Attach, 1);
        if (!attach)
                return call_fail_errno(call, -ENOMEM, "attach a connection");
        *attach = (Attach){.role = call->role, .call = call, .request = request};
        r = register_client(attach);
        if (r == -EEXIST)
                return call_fail(call, ERROR_INVALID_ARGUMENT, "%s", "client: belongs to another user");
        if (r < 0)
                return call_fail_errno(call, r, "attach a connection");
        TAILQ_INSERT_TAIL(&attach->role->attaches_waiting, attach, entry);
        begin_waiting(attach->role);
}

void handle_gateway_detach(Call *call, const Sc__DetachRequest *request) {
        Sc__DetachResponse response = SC__DETACH_RESPONSE__INIT;
        GroupRole *role = call->role;

        online_detach(role->online, request->client, call->origin);
        call_return(call, &response.base);
}
