/* SPDX-License-Identifier: Apache-2.0 */

/* How a connection gets every message of its user's conversations once and in order, though group primaries
 * and this gateway share nothing but a stream of frames.
 *
 * The problem
 *
 * A connection needs two things of a primary: what was stored up to now (the answer to gateway.attach) and
 * what is stored from now on (pushes). The primary registers the connection first and reads the store
 * afterwards, so nothing falls between the two, but they overlap and overtake each other: a push may come
 * before the answer that belongs to it, a message may be in both, and with several primaries the answers
 * come at different times. And a push names no connection. It is for everybody here who is subscribed to
 * the conversation, among them connections that are attached already and want it at once.
 *
 * What it rests on
 *
 *  1. The messages of a conversation are numbered without gaps, and every subscription has a position: the
 *     seq that was sent last. subscription_deliver() sends position + 1, drops what is older, and takes
 *     what is newer for a gap. So a message that comes twice does no harm, and one that is missing is
 *     noticed with the next one at the latest.
 *  2. A message that a primary stores after it has received gateway.attach is pushed to this gateway; one
 *     that it stored before is in the answer. Hence answer and pushes since the request was sent are
 *     together all there is.
 *  3. role->serial orders what happens here. It grows with every push, every attachment that begins, and
 *     every answer that is applied to existing subscriptions. An attachment and a subscription remember the
 *     serial of their beginning, a buffered push that of its coming.
 *
 * The order of events
 *
 *      attachment begins      serial s; one request to each primary is sent
 *      a push comes           serial > s; delivered to those who are subscribed, and put into the push
 *                             buffer while any attachment is under way
 *      an answer comes        kept; with the last one the attachment is done
 *      attachment done        the answers become subscriptions, at the positions that they name; then
 *                             everything in the push buffer after s is applied, in its order: what the answers
 *                             have already is dropped by its seq, the rest is sent
 *      attachment freed       the push buffer is pruned to what the oldest one still needs
 *
 * Between the last two nothing else runs, so no push can slip in. Changes of membership are pushes like
 * messages and go the same way: who became a member after the answer was made is subscribed by the replay,
 * who ceased to be one is unsubscribed by it, and applying either a second time changes nothing.
 *
 * Attaching again
 *
 * A primary forgets a gateway whose connection breaks, and a new primary never knew it. So when a link
 * stands (again), or its shards have changed, every connection that was attached before, by its
 * attached_serial, is attached again through that link alone, with the positions of its subscriptions: see
 * reattach.c. Its subscriptions stay meanwhile. A push that is next for its position is sent at once; one
 * that shows a gap is left out, as the answer has what is missing, and the push buffer has the push. The
 * answer is applied to the subscriptions that exist: messages behind the position are sent, the serial is
 * set to that of the answer. A subscription of this link that is older than the attachment then was not
 * confirmed: the user is no member any more, and it ends. One that a push made in between is newer, and stays.
 *
 * What goes wrong, and what follows
 *
 *      a request is refused, or   a new connection: its connect command gets the error, and it may try again;
 *      not answered in time       all its primaries are told to detach it, as they may have attached it late.
 *                                 One that is attached again: it is disconnected, and connects anew with its
 *                                 positions; but nothing happens if the link is broken, as it is attached
 *                                 again when the link stands
 *      the session was ended      ERROR_SESSION_REVOKED, which no other error replaces: the connection is
 *                                 disconnected as one that must sign in anew
 *      the link breaks            the RPC sends requests without answer again by itself. An answer that came
 *                                 before stands for nothing any more: that attachment fails, "unavailable"
 *      the link leaves the routes its requests without answer fail; nobody is told to detach there
 *      the connection ends        primaries that owe no answer are told at once, the others when their answer
 *                                 has come: a detach must not overtake the attach it undoes
 *      memory is out, or the      the attachments under way would miss pushes, so all of them fail: a new
 *      push buffer is full        connection is refused as "overloaded", one that is attached again is
 *                                 disconnected and recovers by its positions
 *      the answer leaves a gap    more was missed than one answer holds, or the conversation has another
 *                                 epoch: the connection is disconnected and recovers, or is told to page
 *                                 through the history
 *
 * In every case the client keeps its positions, and whoever connects anew starts from them. What can be lost
 * here is time. */
#include "socket/gateway/attachment.h"

#include <stdio.h>

#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* The SDKs give up a command after 5 s; the answer should be there before. */
#define ATTACH_TIMEOUT_USEC (4 * USEC_PER_SEC)
#define RESPONSE_ARENA_LIMIT (64U << 20)

/* --- the push buffer --- */

/* Drops what no attachment needs: those that overflowed need nothing. */
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
        /* A primary that did not get it pushes for a connection that is gone, to which nothing happens. */
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

/* Notes an error; that the session was ended is the one that counts. */
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
