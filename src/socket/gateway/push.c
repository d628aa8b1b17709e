/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/gateway/push.h"

#include "schema-tables.h"
#include "socket/gateway/catch-up.h"
#include "socket/gateway/membership.h"
#include "util/string-util.h"

/* The memory of one push when unpacked: a message of 64 KiB and its structs, with room to spare. */
#define PUSH_ARENA_LIMIT (1U << 20)

static void handle_deliver(Gateway *gateway, const RpcMessage *message, const ProtobufCMessage *unpacked) {
        const Sc__Deliver *deliver = (const Sc__Deliver *) unpacked;
        Channel *channel = channel_find(gateway->role, deliver->conversation);
        _cleanup_(delivery_unrefp) Delivery *delivery = NULL;

        if (!deliver->update || !channel)
                return;
        int r = delivery_new(&delivery, deliver->conversation, deliver->update);
        if (r < 0) {
                log_error_errno(r, "Failed to take a delivery: %m");
                if (deliver->update->what_case == SC__UPDATE__WHAT_MESSAGE && deliver->update->message)
                        channel_raise(gateway->role, channel, deliver->update->message->seq);
                return;
        }
        unsigned n = channel_deliver(gateway->role, channel, delivery);
        log_trace(message->trace, (.conversation = deliver->conversation), "Delivered to %u connections", n);
}

static void add_member(Gateway *gateway, ConnectedUser *user, const Sc__Subscription *now) {
        SocketRole *role = gateway->role;
        Channel *channel = channel_open(role, now->conversation, now->epoch, now->last_seq);
        Connection *next;

        for (Connection *c = TAILQ_FIRST(&user->connections); c; c = next) {
                next = TAILQ_NEXT(c, in_user);
                if (!channel || connection_subscribe(c, channel, now->last_seq) == -ENOMEM)
                        connection_disconnect(c, DISCONNECT_SERVER_ERROR);
                else
                        connection_catch_up(c);
        }
        channel_unpin(role, channel);
}

static void remove_member(ConnectedUser *user, const char *conversation) {
        Connection *next;

        for (Connection *c = TAILQ_FIRST(&user->connections); c; c = next) {
                next = TAILQ_NEXT(c, in_user);
                Subscription *subscription = subscription_find(c, conversation);
                if (subscription)
                        (void) subscription_end(subscription);
        }
}

static void handle_membership(
        Gateway *gateway, const RpcMessage *message, const ProtobufCMessage *unpacked) {
        const Sc__MembershipChanged *change = (const Sc__MembershipChanged *) unpacked;
        ConnectedUser *user = connected_user_find(gateway->role, change->user);

        if (!user || !change->subscription)
                return;
        gateway->role->serial++;
        if (change->removed)
                remove_member(user, change->subscription->conversation);
        else
                add_member(gateway, user, change->subscription);
}

/* A session was ended, or (empty) all of the user. */
static void handle_kick(Gateway *gateway, const RpcMessage *message, const ProtobufCMessage *unpacked) {
        const Sc__Kick *kick = (const Sc__Kick *) unpacked;
        ConnectedUser *user = connected_user_find(gateway->role, kick->user);
        Connection *next;

        for (Connection *c = user ? TAILQ_FIRST(&user->connections) : NULL; c; c = next) {
                next = TAILQ_NEXT(c, in_user);
                if (isempty(kick->session) || streq(connection_session(c), kick->session))
                        connection_disconnect(c, DISCONNECT_SESSION_REVOKED);
        }
}

static const struct Push {
        const char *method;
        const ProtobufCMessageDescriptor *descriptor;
        void (*handle)(Gateway *gateway, const RpcMessage *message, const ProtobufCMessage *unpacked);
} pushes[] = {
        {"deliver", &sc__deliver__descriptor, handle_deliver},
        {"membership", &sc__membership_changed__descriptor, handle_membership},
        {"kick", &sc__kick__descriptor, handle_kick},
};

static const struct Push *find_push(const char *method) {
        FOREACH_ARRAY(push, pushes, ELEMENTSOF(pushes))
                if (streq(method, push->method))
                        return push;
        return NULL;
}

void gateway_handle_push(Gateway *gateway, const RpcMessage *message) {
        const struct Push *push = find_push(message->method);
        _cleanup_arena_ Arena arena;
        ProtobufCMessage *unpacked;

        arena_init(&arena, PUSH_ARENA_LIMIT);
        if (!push)
                return; /* of a newer group role */
        int r = arena_unpack(&arena, push->descriptor, message->payload, message->payload_size, &unpacked);
        if (r < 0) {
                log_error_errno(r, "Failed to read a push of the group role: %m");
                return;
        }
        push->handle(gateway, message, unpacked);
}
