/* SPDX-License-Identifier: Apache-2.0 */
#include "group/delivery/fanout.h"

#include "group/delivery/online.h"
#include "util/string-util.h"

static int pack(GroupRole *role, const ProtobufCMessage *message) {
        size_t size = protobuf_c_message_get_packed_size(message);
        uint8_t *space;

        role->push_buffer.size = 0;
        role->push_buffer.error = 0;
        space = buffer_reserve(&role->push_buffer, size);
        if (!space)
                return role->push_buffer.error;
        buffer_commit(&role->push_buffer, protobuf_c_message_pack(message, space));
        return 0;
}

/* The list is a copy: a push may find a peer gone and take it out of the index. */
static void push_to(
        GroupRole *role, void *const *gateways, size_t n, const char *method, const Trace *trace) {
        for (size_t i = 0; i < n; i++)
                role->ports.push(gateways[i], method, trace, role->push_buffer.data, role->push_buffer.size,
                        role->ports.userdata);
}

static void push_to_user(GroupRole *role, const char *user, const char *method,
        const ProtobufCMessage *message, const Trace *trace) {
        void *gateways[ONLINE_MAX_GATEWAYS];
        size_t n = online_gateways_of_user(role->online, user, gateways);

        if (n == 0)
                return;
        int r = pack(role, message);
        if (r < 0) {
                log_warning_errno(r, "Failed to pack a push, leaving it out: %m");
                return;
        }
        push_to(role, gateways, n, method, trace);
}

static int pack_update(GroupRole *role, const char *conversation, Sc__Update *update) {
        Sc__Deliver deliver = SC__DELIVER__INIT;

        deliver.conversation = (char *) conversation;
        deliver.update = update;
        int r = pack(role, &deliver.base);
        if (r < 0)
                return log_warning_errno(r, "Failed to pack a delivery, leaving it out: %m");
        return 0;
}

/* Those with somebody who hears the conversation. */
static size_t gateways_of(GroupRole *role, const char *conversation, void **ret) {
        return is_personal_id(conversation)
                       ? online_gateways_of_user(role->online, conversation + 1, ret)
                       : online_gateways_of_conversation(role->online, conversation, ret);
}

static void push_packed(GroupRole *role, const char *conversation, const Trace *trace) {
        void *gateways[ONLINE_MAX_GATEWAYS];
        size_t n = gateways_of(role, conversation, gateways);

        push_to(role, gateways, n, "deliver", trace);
        role->n_deliveries += n;
        log_trace(trace, (.conversation = conversation), "Handed to %zu gateways", n);
}

void fanout_message(GroupRole *role, Sc__Message *message, const Trace *trace) {
        Sc__Update update = SC__UPDATE__INIT;

        if (!is_personal_id(message->conversation) && !online_is_heard(role->online, message->conversation))
                return;
        update.what_case = SC__UPDATE__WHAT_MESSAGE;
        update.message = message;
        if (pack_update(role, message->conversation, &update) >= 0)
                push_packed(role, message->conversation, trace);
}

void fanout_receipt(
        GroupRole *role, const char *conversation, const char *user, uint64_t read_seq, const Trace *trace) {
        Sc__Receipt receipt = SC__RECEIPT__INIT;
        Sc__Update update = SC__UPDATE__INIT;

        receipt.conversation = (char *) conversation;
        receipt.user = (char *) user;
        receipt.read_seq = read_seq;
        update.what_case = SC__UPDATE__WHAT_RECEIPT;
        update.receipt = &receipt;
        if (pack_update(role, conversation, &update) >= 0)
                push_packed(role, conversation, trace);
}

void fanout_membership(
        GroupRole *role, const char *user, const Conversation *conversation, const Trace *trace) {
        Sc__MembershipChanged change = SC__MEMBERSHIP_CHANGED__INIT;
        Sc__Subscription subscription = SC__SUBSCRIPTION__INIT;

        subscription.conversation = (char *) conversation->id;
        subscription.kind = conversation->kind;
        subscription.epoch = (char *) conversation->epoch;
        subscription.last_seq = conversation->sequence.last_seq;
        change.user = (char *) user;
        change.subscription = &subscription;
        push_to_user(role, user, "membership", &change.base, trace);
}

void fanout_kick(GroupRole *role, const char *user, const char *session, const Trace *trace) {
        Sc__Kick kick = SC__KICK__INIT;

        kick.user = (char *) user;
        kick.session = (char *) strempty(session);
        push_to_user(role, user, "kick", &kick.base, trace);
}
