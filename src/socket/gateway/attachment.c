/* SPDX-License-Identifier: Apache-2.0 */

/* How a connection gets every message of its user's conversations once and in order, although the group
 * primaries and this gateway share nothing but a stream of frames.
 *
 * The problem
 *
 * A connection needs two things from a primary: what is stored up to now (the answer to gateway.attach) and
 * what is stored from now on (pushes). The primary registers the connection first and reads the store
 * afterwards, so that nothing falls between the two. But they overlap, and they overtake each other: a push
 * may come before the answer, a message may be in both, and several primaries answer at different times.
 * Moreover a push names no connection. It is for every connection here that is subscribed to the
 * conversation, and those that are attached already must not wait for one that is not.
 *
 * What the solution rests on
 *
 *  1. The messages of a conversation are numbered without gaps, and every subscription has a position, the
 *     seq that was sent last. subscription_deliver() sends position + 1, drops what is older, and takes
 *     anything else for a gap. So a message that comes twice does no harm, and one that is missing is
 *     noticed at the latest when the next one comes.
 *  2. A message that a primary stores after it has received gateway.attach is pushed to this gateway; one
 *     that it stored before is in the answer. So the answer, and the pushes since the request was sent, are
 *     together complete.
 *  3. role->serial orders the events in this process. It grows with every push, with every attachment that
 *     begins, and with every answer that is applied. An attachment and a subscription remember the serial of
 *     their beginning, a buffered push the serial of its arrival.
 *
 * The order of events
 *
 *    an attachment begins    It gets serial s, and sends one request to each primary.
 *    a push comes            It gets a serial above s, is delivered to the connections that are subscribed,
 *                            and is added to the push buffer as long as any attachment is under way.
 *    an answer comes         It is kept. With the last one the attachment is done.
 *    the attachment is done  Each conversation of the answers becomes a subscription, with the position that
 *                            the answer names. Then what is in the push buffer after s is applied in its
 *                            order: what an answer had already is dropped by its seq, the rest is sent.
 *    it is freed             The push buffer is pruned to what the oldest attachment needs.
 *
 * The last two happen in one turn of the loop, so no push comes in between. Changes of membership are
 * pushes, too, and treated alike: the replay subscribes a user who became a member after the answer was
 * made, and unsubscribes one who ceased to be a member. Applying such a change twice has no effect.
 *
 * Attaching again
 *
 * A primary forgets a gateway when their connection breaks, and a new primary does not know it yet. So when
 * a link is connected (again), and when the routes give it other shards, every connection that was attached
 * before is attached again, through that link alone and with the positions of its subscriptions, some
 * connections at a time (reattach.c). Their subscriptions stay meanwhile. A push that is the next one for a
 * position is sent. One that shows a gap is not sent, and does not end the connection: either the request is
 * still to be sent, and then the answer will contain the message, or it was sent, and then the push buffer
 * has the message. Channel.valid_since tells which subscriptions this is true for.
 *
 * The answer is applied to the subscriptions that exist: the messages behind the position are sent, and the
 * subscription gets a new serial, by which it is confirmed. What was pushed since the request follows from
 * the push buffer. A subscription of this link that is older than the attachment and was not confirmed ends:
 * the user is no member any more. One that a push made meanwhile is younger, and stays.
 *
 * What can fail
 *
 *    a request is refused or    A new connection: its connect command gets the error and may be repeated.
 *    not answered in time       All primaries are told to detach it, since they may have attached it too
 *                               late. One that is attached again: it is disconnected. If the link is broken
 *                               nothing happens, since it is attached again when the link is connected.
 *    the session was ended      ERROR_SESSION_REVOKED; no other error replaces it. The client is
 *                               disconnected and has to sign in.
 *    the link breaks            The RPC client sends requests without answer again. An answer that had come
 *                               through this link is void, as the primary has forgotten the connection: the
 *                               attachment fails with ERROR_UNAVAILABLE.
 *    the routes drop the link   Its requests without answer fail.
 *    the connection ends        Primaries that have answered are told to detach it at once, the others when
 *                               they have answered: a detach must not overtake the attach.
 *    memory is out, or the      All attachments under way lack a push, so they fail. A new connection is
 *    push buffer is full        refused with ERROR_OVERLOADED; one that is attached again is disconnected.
 *    the answer leaves a gap    More was missed than one answer holds, or the conversation has another
 *                               epoch. The connection is disconnected.
 *
 * A client that is disconnected connects again with its positions and recovers from there, or is told to
 * page through the history. No failure here loses a message. */
#include "socket/gateway/attachment.h"

#include <stdio.h>

#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* The SDKs give up a command after 5 s; the answer should be there before. */
#define ATTACH_TIMEOUT_USEC (4 * USEC_PER_SEC)
#define RESPONSE_ARENA_LIMIT (64U << 20)

/* --- the push buffer --- */

/* Drops what no attachment needs. Those that overflowed fail, so they need nothing. */
static void prune_push_buffer(Gateway *gateway) {
        const Attachment *oldest = TAILQ_FIRST(&gateway->attachments);

        while (oldest && oldest->overflowed)
                oldest = TAILQ_NEXT(oldest, in_gateway);
        push_buffer_prune(&gateway->push_buffer, oldest ? oldest->serial : UINT64_MAX);
}

/* A push is missing in the push buffer: no attachment under way can be complete. */
static void overflow_attachments(Gateway *gateway) {
        Attachment *attachment;

        TAILQ_FOREACH(attachment, &gateway->attachments, in_gateway)
                attachment->overflowed = true;
        prune_push_buffer(gateway);
}

void attachments_buffer_delivery(Gateway *gateway, Delivery *delivery) {
        if (TAILQ_EMPTY(&gateway->attachments))
                return;
        if (push_buffer_add_delivery(&gateway->push_buffer, gateway->role->serial, delivery) < 0)
                overflow_attachments(gateway);
}

void attachments_buffer_membership(Gateway *gateway, const void *payload, size_t size) {
        if (TAILQ_EMPTY(&gateway->attachments))
                return;
        if (push_buffer_add_membership(&gateway->push_buffer, gateway->role->serial, payload, size) < 0)
                overflow_attachments(gateway);
}

/* --- detaching --- */

static void on_detached(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        /* A failure does no harm: the primary goes on to push for the connection, and nobody here gets
         * that. */
}

static void send_detach(Link *link, const char *client, const char *user) {
        Sc__DetachRequest request = SC__DETACH_REQUEST__INIT;
        uint8_t payload[2 * 64 + 16];

        if (!link || !rpc_client_is_connected(link->client))
                return; /* it has forgotten the connections of this gateway */
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

bool connection_is_attaching(const Connection *connection, const Link *link) {
        const Attachment *attachment;

        LIST_FOREACH(attachment, &connection->attachments, in_connection)
                FOREACH_ARRAY(request, attachment->requests, attachment->n_requests)
                        if (request->link == link && !request->answered)
                                return true;
        return false;
}

void connection_detach(Gateway *gateway, Connection *connection) {
        Attachment *attachment;
        Link *link;

        LIST_FOREACH(link, &gateway->links, in_gateway)
                if (connection->attached_serial > 0 && !connection_is_attaching(connection, link))
                        send_detach(link, connection->client, connection_user(connection));
        while ((attachment = LIST_FIRST(&connection->attachments))) {
                LIST_REMOVE(attachment, in_connection);
                attachment->connection = NULL; /* attachment_finish() detaches */
        }
        connection->attached_serial = 0;
}

/* --- the end of an attachment --- */

static void attachment_free(Attachment *attachment) {
        FOREACH_ARRAY(request, attachment->requests, attachment->n_requests)
                arena_done(&request->arena);
        free(attachment->user);
        free(attachment);
}

/* Notes an error. ERROR_SESSION_REVOKED is not replaced by others. */
static void attachment_fail(Attachment *attachment, Sc__ErrorCode code, const char *detail) {
        if (attachment->failure == ERROR_SESSION_REVOKED)
                return;
        attachment->failure = code;
        snprintf(attachment->detail, sizeof(attachment->detail), "%s", strempty(detail));
}

static void attachment_finish(Attachment *attachment) {
        Gateway *gateway = attachment->gateway;

        if (attachment->connection)
                LIST_REMOVE(attachment, in_connection);
        else
                FOREACH_ARRAY(request, attachment->requests, attachment->n_requests)
                        send_detach(request->link, attachment->client, attachment->user);
        attachment->done(attachment);
        TAILQ_REMOVE(&gateway->attachments, attachment, in_gateway);
        attachment_free(attachment);
        prune_push_buffer(gateway);
}

static void on_answer(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        AttachmentRequest *request = userdata;
        Attachment *attachment = request->attachment;
        ProtobufCMessage *response;

        request->answered = true;
        if (code == ERROR_NONE) {
                int r = arena_unpack(
                        &request->arena, &sc__attach_response__descriptor, payload, size, &response);
                if (r < 0)
                        code = ERROR_INTERNAL;
                else
                        request->response = (Sc__AttachResponse *) response;
        }
        if (code != ERROR_NONE)
                attachment_fail(attachment, code, detail);
        if (--attachment->n_waiting == 0)
                attachment_finish(attachment);
}

void attachments_link_lost(Link *link, bool removed) {
        Attachment *attachment;

        TAILQ_FOREACH(attachment, &link->gateway->attachments, in_gateway)
                FOREACH_ARRAY(request, attachment->requests, attachment->n_requests) {
                        if (request->link != link)
                                continue;
                        if (request->answered)
                                attachment_fail(attachment, ERROR_UNAVAILABLE, NULL);
                        if (removed)
                                request->link = NULL;
                }
}

/* --- the beginning --- */

/* The request in packed form; caller frees. NULL when out of memory. */
static uint8_t *pack_request(
        const Connection *connection, Sc__Position **positions, size_t n_positions, size_t *ret_size) {
        Sc__AttachRequest request = SC__ATTACH_REQUEST__INIT;

        request.client = (char *) connection->client;
        request.user = (char *) connection_user(connection);
        request.device = (char *) connection_device(connection);
        request.session = (char *) connection_session(connection);
        request.positions = positions;
        request.n_positions = n_positions;
        *ret_size = sc__attach_request__get_packed_size(&request);
        uint8_t *payload = malloc(*ret_size);
        if (payload)
                sc__attach_request__pack(&request, payload);
        return payload;
}

static int send_request(Attachment *attachment, Link *link, const void *payload, size_t size) {
        AttachmentRequest *request = &attachment->requests[attachment->n_requests];
        uint64_t timeout_usec = attachment->gateway->role->conf->rpc_timeout_usec;

        request->attachment = attachment;
        request->link = link;
        arena_init(&request->arena, RESPONSE_ARENA_LIMIT);
        attachment->n_requests++;
        int r = rpc_client_call(link->client, &method_gateway_attach,
                &(RpcMessage){
                        .method = method_gateway_attach.name,
                        .timeout_usec = MIN(timeout_usec, ATTACH_TIMEOUT_USEC),
                        .payload = payload,
                        .payload_size = size,
                },
                on_answer, request);
        if (r >= 0)
                attachment->n_waiting++;
        return r;
}

/* To one link, or to all. Fails only if not one request could be sent. */
static int send_requests(Attachment *attachment, Link *only, const void *payload, size_t size) {
        Link *link;
        int r = 0;

        LIST_FOREACH(link, &attachment->gateway->links, in_gateway) {
                if (only && link != only)
                        continue;
                r = send_request(attachment, link, payload, size);
                if (r < 0)
                        break;
        }
        if (attachment->n_waiting == 0)
                return r < 0 ? r : -ENOTCONN; /* the routes name no primary */
        if (r < 0)
                attachment_fail(attachment, ERROR_OVERLOADED, NULL);
        return 0;
}

int attachment_new(Attachment **ret, Gateway *gateway, Connection *connection, Link *link,
        Sc__Position **positions, size_t n_positions, AttachmentDone done) {
        _cleanup_free_ uint8_t *payload = NULL;
        size_t size, n = link ? 1 : gateway->n_links;

        payload = pack_request(connection, positions, n_positions, &size);
        if (!payload)
                return -ENOMEM;
        Attachment *attachment = calloc(1, sizeof(Attachment) + n * sizeof(AttachmentRequest));
        if (!attachment)
                return -ENOMEM;
        attachment->user = strdup(connection_user(connection));
        if (!attachment->user) {
                free(attachment);
                return -ENOMEM;
        }
        attachment->gateway = gateway;
        attachment->connection = connection;
        attachment->done = done;
        attachment->serial = ++gateway->role->serial;
        memcpy(attachment->client, connection->client, sizeof(attachment->client));
        int r = send_requests(attachment, link, payload, size);
        if (r < 0) {
                attachment_free(attachment);
                return r;
        }
        TAILQ_INSERT_TAIL(&gateway->attachments, attachment, in_gateway);
        LIST_INSERT_HEAD(&connection->attachments, attachment, in_connection);
        *ret = attachment;
        return 0;
}
