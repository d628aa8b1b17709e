/* SPDX-License-Identifier: Apache-2.0 */
#include "schema-tables.h"
#include "socket/gateway-private.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* The SDKs give up a command after 5 s; the answer should be there before. */
#define ATTACH_TIMEOUT_USEC (4 * USEC_PER_SEC)
/* Sessions that are attached again at the same time on one link: a restarted primary has other work, too. */
#define REATTACH_WINDOW 64U
/* Pushes held for attachments under way; these take milliseconds, so this is minutes' worth. */
#define HELD_MAX 65536U
#define RESPONSE_ARENA_LIMIT (64U << 20)
#define PUSH_ARENA_LIMIT (1U << 20)

/* --- what is held --- */

struct Held {
        TAILQ_ENTRY(Held) link;
        uint64_t serial;
        Delivery *delivery; /* or */
        Bytes *membership; /* a packed MembershipChanged */
};

static void held_free(Gateway *gateway, Held *held) {
        TAILQ_REMOVE(&gateway->held, held, link);
        gateway->n_held--;
        delivery_unref(held->delivery);
        bytes_unref(held->membership);
        free(held);
}

/* Drops what no attachment waits for. */
static void prune_held(Gateway *gateway) {
        const Attachment *oldest = TAILQ_FIRST(&gateway->attachments);
        Held *held;

        while (oldest && oldest->overflowed)
                oldest = TAILQ_NEXT(oldest, in_gateway);
        while ((held = TAILQ_FIRST(&gateway->held)) && (!oldest || held->serial <= oldest->serial))
                held_free(gateway, held);
}

static void hold(Gateway *gateway, Delivery *delivery, Bytes *membership) {
        /* Without memory for what is to be held there is nothing to hold either. */
        Held *held = delivery || membership ? new0(Held, 1) : NULL;
        Attachment *attachment;

        if (!held || gateway->n_held >= HELD_MAX) {
                /* None of those under way would be complete. */
                TAILQ_FOREACH(attachment, &gateway->attachments, in_gateway)
                        attachment->overflowed = true;
                prune_held(gateway);
                free(held);
                return;
        }
        held->serial = gateway->serial;
        held->delivery = delivery ? delivery_ref(delivery) : NULL;
        held->membership = membership ? bytes_ref(membership) : NULL;
        TAILQ_INSERT_TAIL(&gateway->held, held, link);
        gateway->n_held++;
}

void gateway_hold_delivery(Gateway *gateway, Delivery *delivery) {
        hold(gateway, delivery, NULL);
}

void gateway_hold_membership(Gateway *gateway, const void *payload, size_t size) {
        _cleanup_(bytes_unrefp) Bytes *copy = bytes_new_copy(payload, size);

        hold(gateway, NULL, copy);
}

static int replay_membership(Session *session, const Bytes *packed) {
        _cleanup_arena_ Arena arena;
        ProtobufCMessage *change;

        arena_init(&arena, PUSH_ARENA_LIMIT);
        int r = arena_unpack(
                &arena, &sc__membership_changed__descriptor, packed->data, packed->size, &change);
        if (r < 0 || !streq(((Sc__MembershipChanged *) change)->user, session_user(session)))
                return 0;
        return session_apply_membership(session, (Sc__MembershipChanged *) change);
}

/* Gives the session what came since its attachment began and was not in the answer. */
static void replay_held(Gateway *gateway, Session *session, uint64_t since) {
        Held *held;
        int r = 0;

        TAILQ_FOREACH(held, &gateway->held, link) {
                if (held->serial <= since)
                        continue;
                if (held->membership)
                        r = replay_membership(session, held->membership);
                else {
                        Subscription *subscription =
                                session_subscription(session, held->delivery->conversation);
                        r = subscription ? subscription_deliver(subscription, held->delivery) : 0;
                }
                if (r < 0)
                        return;
        }
}

int session_apply_membership(Session *session, const Sc__MembershipChanged *change) {
        const char *conversation = change->subscription->conversation;
        Subscription *subscription = session_subscription(session, conversation);

        if (change->removed) {
                if (!subscription)
                        return 0;
                int r = session_push_unsubscribe(session, conversation);
                if (r >= 0)
                        subscription_free(subscription);
                return r;
        }
        if (subscription)
                return 0;
        int r = subscription_new(&subscription, session, conversation, change->subscription->epoch,
                change->subscription->last_seq);
        if (r < 0) {
                session_disconnect(session, DISCONNECT_SERVER_ERROR);
                return -ECONNRESET;
        }
        return session_push_subscribe(session, subscription);
}

/* --- attached again --- */

static int catch_up(Subscription *subscription, const Sc__Subscription *now) {
        Session *session = subscription->session;

        for (size_t i = 0; i < now->n_messages; i++) {
                _cleanup_(delivery_unrefp) Delivery *delivery = NULL;
                Sc__Update update = SC__UPDATE__INIT;

                update.what_case = SC__UPDATE__WHAT_MESSAGE;
                update.message = now->messages[i];
                int r = delivery_new(&delivery, now->conversation, &update);
                if (r >= 0)
                        r = subscription_deliver(subscription, delivery);
                if (r == -ECONNRESET)
                        return r;
                if (r < 0)
                        break;
        }
        if (streq(subscription->channel->epoch, now->epoch) && now->last_seq <= subscription->position)
                return 0;
        /* More is missing than comes at once, or it is another incarnation: the client starts from what it
         * has. */
        session_disconnect(session, DISCONNECT_INSUFFICIENT_STATE);
        return -ECONNRESET;
}

static bool is_served_by(const Gateway *gateway, const char *conversation, const Link *link) {
        return gateway->n_links == 1 ||
               streq(routes_address(gateway->role->process->routes, ROLE_GROUP, conversation),
                       link->address);
}

/* Takes away what the primary no longer has for this user: what it confirmed has a newer serial. */
static int drop_unconfirmed(Session *session, const Attachment *attachment, const Link *link) {
        Subscription *next;

        for (Subscription *s = LIST_FIRST(&session->subscriptions); s; s = next) {
                next = LIST_NEXT(s, in_session);
                if (s->serial > attachment->serial ||
                        !is_served_by(attachment->gateway, s->channel->conversation, link))
                        continue;
                int r = session_push_unsubscribe(session, s->channel->conversation);
                if (r < 0)
                        return r;
                subscription_free(s);
        }
        return 0;
}

static int reattached(Session *session, Attachment *attachment) {
        Gateway *gateway = attachment->gateway;
        const Part *part = &attachment->parts[0];
        int r;

        gateway->serial++;
        FOREACH_ARRAY(p, part->response->subscriptions, part->response->n_subscriptions) {
                const Sc__Subscription *now = *p;
                Subscription *subscription = session_subscription(session, now->conversation);

                if (subscription) {
                        subscription->serial = gateway->serial;
                        r = catch_up(subscription, now);
                } else {
                        r = subscription_new(
                                &subscription, session, now->conversation, now->epoch, now->last_seq);
                        if (r < 0)
                                session_disconnect(session, DISCONNECT_SERVER_ERROR);
                        else
                                r = session_push_subscribe(session, subscription);
                }
                if (r < 0)
                        return r;
        }
        gateway->role->statistics.reattached++;
        return drop_unconfirmed(session, attachment, part->link);
}

static void finish_reattach(Session *session, Attachment *attachment) {
        const Link *link = attachment->parts[0].link;

        if (attachment->overflowed) {
                session_disconnect(session, DISCONNECT_INSUFFICIENT_STATE);
                return;
        }
        if (attachment->failure != ERROR_NONE) {
                /* When the link stands again everything is attached anew. */
                if (link && rpc_client_is_connected(link->client))
                        session_disconnect(session, DISCONNECT_SERVER_ERROR);
                return;
        }
        if (reattached(session, attachment) >= 0)
                replay_held(attachment->gateway, session, attachment->serial);
}

/* --- attachments --- */

static void on_detached(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        /* A primary that did not get it tells a connection that is gone: nothing happens then. */
}

static void send_detach(Link *link, const char *client, const char *user) {
        Sc__DetachRequest request = SC__DETACH_REQUEST__INIT;
        uint8_t payload[2 * 64 + 16];

        if (!link || !rpc_client_is_connected(link->client))
                return; /* it has forgotten this gateway's connections */
        request.client = (char *) client;
        request.user = (char *) user;
        size_t size = sc__detach_request__get_packed_size(&request);
        if (size > sizeof(payload))
                return;
        sc__detach_request__pack(&request, payload);
        (void) rpc_client_call(link->client, &method_gateway_detach,
                &(RpcMessage){
                        .method = method_gateway_detach.name, .payload = payload, .payload_size = size},
                on_detached, NULL);
}

static void attachment_free(Attachment *attachment) {
        for (unsigned i = 0; i < attachment->n_parts; i++)
                arena_done(&attachment->parts[i].arena);
        free(attachment->user);
        free(attachment);
}

static void finish_connect(Session *session, Attachment *attachment) {
        Sc__AttachResponse *responses[LINKS_MAX];

        if (attachment->overflowed && attachment->failure == ERROR_NONE)
                attachment->failure = ERROR_OVERLOADED;
        for (unsigned i = 0; i < attachment->n_parts; i++)
                responses[i] = attachment->parts[i].response;
        attachment->done(session, attachment->failure, attachment->detail, responses, attachment->n_parts);
        if (session->state == SESSION_CONNECTED)
                replay_held(attachment->gateway, session, attachment->serial);
}

/* The last answer is there. */
static void attachment_finish(Attachment *attachment) {
        Gateway *gateway = attachment->gateway;
        Session *session = attachment->session;
        Link *again = attachment->done ? NULL : attachment->parts[0].link;

        if (session)
                LIST_REMOVE(attachment, in_session);
        if (!session)
                for (unsigned i = 0; i < attachment->n_parts; i++)
                        send_detach(attachment->parts[i].link, attachment->client, attachment->user);
        else if (attachment->done)
                finish_connect(session, attachment);
        else
                finish_reattach(session, attachment);
        TAILQ_REMOVE(&gateway->attachments, attachment, in_gateway);
        prune_held(gateway);
        attachment_free(attachment);
        if (again) {
                again->n_reattaching--;
                link_reattach_some(again);
        }
}

static void on_attached(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        Part *part = userdata;
        Attachment *attachment = part->attachment;
        ProtobufCMessage *response;

        part->answered = true;
        if (code == ERROR_NONE) {
                int r = arena_unpack(
                        &part->arena, &sc__attach_response__descriptor, payload, size, &response);
                if (r < 0)
                        code = ERROR_INTERNAL;
                else
                        part->response = (Sc__AttachResponse *) response;
        }
        if (code != ERROR_NONE) {
                attachment->failure = code;
                snprintf(attachment->detail, sizeof(attachment->detail), "%s", strempty(detail));
        }
        if (--attachment->n_waiting == 0)
                attachment_finish(attachment);
}

static int attachment_new(
        Attachment **ret, Gateway *gateway, Session *session, unsigned n_parts, AttachDone done) {
        Attachment *attachment = calloc(1, sizeof(Attachment) + n_parts * sizeof(Part));
        if (!attachment)
                return -ENOMEM;
        attachment->user = strdup(session_user(session));
        if (!attachment->user) {
                free(attachment);
                return -ENOMEM;
        }
        attachment->gateway = gateway;
        attachment->session = session;
        attachment->done = done;
        attachment->serial = ++gateway->serial;
        memcpy(attachment->client, session->client, sizeof(attachment->client));
        TAILQ_INSERT_TAIL(&gateway->attachments, attachment, in_gateway);
        LIST_INSERT_HEAD(&session->attachments, attachment, in_session);
        *ret = attachment;
        return 0;
}

static int part_request(Attachment *attachment, Link *link, const void *payload, size_t size) {
        Part *part = &attachment->parts[attachment->n_parts];

        part->attachment = attachment;
        part->link = link;
        arena_init(&part->arena, RESPONSE_ARENA_LIMIT);
        attachment->n_parts++;
        int r = rpc_client_call(link->client, &method_gateway_attach,
                &(RpcMessage){
                        .method = method_gateway_attach.name,
                        .timeout_usec =
                                MIN(attachment->gateway->role->conf->rpc_timeout_usec, ATTACH_TIMEOUT_USEC),
                        .payload = payload,
                        .payload_size = size,
                },
                on_attached, part);
        if (r >= 0)
                attachment->n_waiting++;
        return r;
}

/* The request in packed form; caller frees. NULL when out of memory. */
static uint8_t *pack_request(
        const Session *session, Sc__Position **positions, size_t n_positions, size_t *ret_size) {
        Sc__AttachRequest request = SC__ATTACH_REQUEST__INIT;

        request.client = (char *) session->client;
        request.user = (char *) session_user(session);
        request.device = (char *) session_device(session);
        request.session = (char *) session_id(session);
        request.positions = positions;
        request.n_positions = n_positions;
        *ret_size = sc__attach_request__get_packed_size(&request);
        uint8_t *payload = malloc(*ret_size);
        if (payload)
                sc__attach_request__pack(&request, payload);
        return payload;
}

/* Sends the request to one link, or to all. Fails only if not one request could be sent. */
static int attach(Gateway *gateway, Session *session, Link *only, Sc__Position **positions,
        size_t n_positions, AttachDone done) {
        _cleanup_free_ uint8_t *payload = NULL;
        Attachment *attachment;
        Link *link;
        size_t size;
        int r = 0;

        payload = pack_request(session, positions, n_positions, &size);
        if (!payload)
                return -ENOMEM;
        r = attachment_new(&attachment, gateway, session, only ? 1 : (unsigned) gateway->n_links, done);
        if (r < 0)
                return r;
        LIST_FOREACH(link, &gateway->links, in_gateway) {
                if (only && link != only)
                        continue;
                r = part_request(attachment, link, payload, size);
                if (r < 0)
                        break;
        }
        if (r >= 0)
                return 0;
        if (attachment->n_waiting > 0) {
                attachment->failure = ERROR_OVERLOADED;
                return 0;
        }
        LIST_REMOVE(attachment, in_session);
        TAILQ_REMOVE(&gateway->attachments, attachment, in_gateway);
        attachment_free(attachment);
        return r;
}

int gateway_attach(
        Gateway *gateway, Session *session, Sc__Position **positions, size_t n_positions, AttachDone done) {
        int r = gateway_ensure_links(gateway);
        if (r < 0)
                return r;
        r = attach(gateway, session, NULL, positions, n_positions, done);
        if (r >= 0)
                session->attached_serial = gateway->serial;
        return r;
}

static bool is_attaching_to(const Session *session, const Link *link) {
        const Attachment *attachment;

        LIST_FOREACH(attachment, &session->attachments, in_session)
                for (unsigned i = 0; i < attachment->n_parts; i++)
                        if (attachment->parts[i].link == link && !attachment->parts[i].answered)
                                return true;
        return false;
}

void gateway_detach(Gateway *gateway, Session *session) {
        Attachment *attachment;
        Link *link;

        LIST_FOREACH(link, &gateway->links, in_gateway) {
                if (link->next == session)
                        link->next = TAILQ_NEXT(session, in_role);
                /* Where an answer is awaited, detaching follows it: else it could be overtaken by the
                 * attaching. */
                if (session->attached_serial > 0 && !is_attaching_to(session, link))
                        send_detach(link, session->client, session_user(session));
        }
        while ((attachment = LIST_FIRST(&session->attachments))) {
                LIST_REMOVE(attachment, in_session);
                attachment->session = NULL;
        }
        session->attached_serial = 0;
}

/* --- attaching again --- */

static int reattach_session(Link *link, Session *session) {
        Subscription *subscription;
        size_t n = 0, n_positions = 0;

        LIST_FOREACH(subscription, &session->subscriptions, in_session)
                n++;
        _cleanup_free_ Sc__Position *positions = new0(Sc__Position, n + 1);
        _cleanup_free_ Sc__Position **pointers = new0(Sc__Position *, n + 1);
        if (!positions || !pointers)
                return -ENOMEM;
        LIST_FOREACH(subscription, &session->subscriptions, in_session) {
                Channel *channel = subscription->channel;
                Sc__Position *position = &positions[n_positions];

                if (!is_served_by(link->gateway, channel->conversation, link))
                        continue;
                sc__position__init(position);
                position->conversation = channel->conversation;
                position->epoch = channel->epoch;
                position->seq = subscription->position;
                pointers[n_positions++] = position;
        }
        return attach(link->gateway, session, link, pointers, n_positions, NULL);
}

/* Those that were attached before this connection to the primary, and are not just being attached. */
static bool needs_reattach(const Link *link, const Session *session) {
        return session->state == SESSION_CONNECTED && session->attached_serial <= link->valid_since &&
               !is_attaching_to(session, link);
}

void link_reattach_some(Link *link) {
        while (link->next && link->n_reattaching < REATTACH_WINDOW) {
                Session *session = link->next;

                link->next = TAILQ_NEXT(session, in_role);
                if (!needs_reattach(link, session))
                        continue;
                if (reattach_session(link, session) < 0)
                        session_disconnect(session, DISCONNECT_SERVER_ERROR);
                else
                        link->n_reattaching++;
        }
}

void link_reattach(Link *link) {
        link->valid_since = ++link->gateway->serial;
        link->next = TAILQ_FIRST(&link->gateway->role->sessions);
        link_reattach_some(link);
}

void link_lost(Link *link, bool for_ever) {
        Attachment *attachment;

        TAILQ_FOREACH(attachment, &link->gateway->attachments, in_gateway)
                FOREACH_ARRAY(part, attachment->parts, attachment->n_parts) {
                        if (part->link != link)
                                continue;
                        if (part->answered)
                                attachment->failure = ERROR_UNAVAILABLE;
                        if (for_ever)
                                part->link = NULL;
                }
}
