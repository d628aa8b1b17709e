/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/gateway/push-buffer.h"

#include "schema-tables.h"
#include "socket/gateway/membership.h"
#include "util/string-util.h"

struct BufferedPush {
        TAILQ_ENTRY(BufferedPush) link;
        uint64_t serial;
        Delivery *delivery; /* or */
        Bytes *membership; /* a packed MembershipChanged */
};

void push_buffer_init(PushBuffer *buffer) {
        TAILQ_INIT(&buffer->pushes);
        buffer->n = 0;
}

static BufferedPush *push_buffer_add(PushBuffer *buffer, uint64_t serial) {
        BufferedPush *push = new0(BufferedPush, 1);

        if (!push)
                return NULL;
        push->serial = serial;
        TAILQ_INSERT_TAIL(&buffer->pushes, push, link);
        buffer->n++;
        return push;
}

int push_buffer_add_delivery(PushBuffer *buffer, uint64_t serial, Delivery *delivery) {
        if (buffer->n >= PUSH_BUFFER_MAX)
                return -ENOBUFS;
        BufferedPush *push = push_buffer_add(buffer, serial);
        if (!push)
                return -ENOMEM;
        push->delivery = delivery_ref(delivery);
        return 0;
}

int push_buffer_add_membership(PushBuffer *buffer, uint64_t serial, const void *payload, size_t size) {
        if (buffer->n >= PUSH_BUFFER_MAX)
                return -ENOBUFS;
        _cleanup_(bytes_unrefp) Bytes *copy = bytes_new_copy(payload, size);
        if (!copy)
                return -ENOMEM;
        BufferedPush *push = push_buffer_add(buffer, serial);
        if (!push)
                return -ENOMEM;
        push->membership = TAKE_PTR(copy);
        return 0;
}

void push_buffer_prune(PushBuffer *buffer, uint64_t serial) {
        BufferedPush *push;

        while ((push = TAILQ_FIRST(&buffer->pushes)) && push->serial <= serial) {
                TAILQ_REMOVE(&buffer->pushes, push, link);
                buffer->n--;
                delivery_unref(push->delivery);
                bytes_unref(push->membership);
                free(push);
        }
}

static int replay_membership(Connection *connection, const Bytes *packed) {
        _cleanup_arena_ Arena arena;
        ProtobufCMessage *message;

        arena_init(&arena, PUSH_ARENA_LIMIT);
        int r = arena_unpack(
                &arena, &sc__membership_changed__descriptor, packed->data, packed->size, &message);
        if (r < 0) {
                connection_disconnect(connection, DISCONNECT_SERVER_ERROR);
                return -ECONNRESET;
        }
        const Sc__MembershipChanged *change = (const Sc__MembershipChanged *) message;
        return streq(change->user, connection_user(connection))
                       ? connection_apply_membership(connection, change)
                       : 0;
}

void push_buffer_replay(const PushBuffer *buffer, Connection *connection, uint64_t serial) {
        BufferedPush *push;
        int r = 0;

        TAILQ_FOREACH(push, &buffer->pushes, link) {
                if (push->serial <= serial)
                        continue;
                if (push->membership)
                        r = replay_membership(connection, push->membership);
                else {
                        Subscription *subscription =
                                subscription_find(connection, push->delivery->conversation);
                        r = subscription ? subscription_deliver(subscription, push->delivery) : 0;
                }
                if (r < 0)
                        return;
        }
}
