/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/gateway/attach-batch.h"

#include "schema-tables.h"
#include "socket/gateway/catch-up.h"
#include "socket/gateway/membership.h"
#include "socket/gateway/reattach.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define BATCHES_MAX 3U /* under way on one link */
#define BATCH_TIMEOUT_USEC (10 * USEC_PER_SEC)
#define RESPONSE_ARENA_LIMIT (16U << 20)

/* --- detaching --- */

static void on_detached(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        /* A failure does no harm: the primary goes on to push for the connection, and nobody here gets
         * that. */
}

static void send_detach(Link *link, const Connection *connection) {
        Sc__DetachRequest request = SC__DETACH_REQUEST__INIT;
        uint8_t payload[UUID_TEXT_SIZE + 16];

        if (!rpc_client_is_connected(link->client))
                return; /* it has forgotten the connections of this gateway */
        request.client = (char *) connection->client;
        (void) rpc_client_call(link->client, &method_gateway_detach,
                &(RpcMessage){.method = method_gateway_detach.name,
                        .payload = payload,
                        .payload_size = sc__detach_request__pack(&request, payload)},
                on_detached, NULL);
}

/* Was the primary asked to attach it? */
static bool is_known_to(const Link *link, const Connection *connection) {
        const Attachment *attachment;

        LIST_FOREACH(attachment, &connection->attachments, in_connection)
                if (attachment->link == link && !attachment->batch && !attachment->after)
                        return attachment->again;
        return connection->attached_serial > 0;
}

void connection_detach(Gateway *gateway, Connection *connection) {
        Link *link;

        LIST_FOREACH(link, &gateway->links, in_gateway)
                if (is_known_to(link, connection))
                        send_detach(link, connection);
        while (!LIST_EMPTY(&connection->attachments))
                attachment_free(LIST_FIRST(&connection->attachments));
        connection->attached_serial = 0;
}

/* --- the end of an attachment, which is freed before --- */

static void attaching_done(Connection *connection, Link *link) {
        Gateway *gateway = link->gateway;
        SocketRole *role = gateway->role;

        /* It need not be attached again when the link comes to it. */
        if (gateway->n_links == 1 && LIST_FIRST(&gateway->links) == link)
                connection->attached_serial = role->serial;
        if (connection->state == CONNECTION_CONNECTED) {
                role->statistics.reattached++;
                connection_catch_up(connection);
        } else if (connection->state == CONNECTION_CONNECTING && LIST_EMPTY(&connection->attachments))
                gateway->attached(connection, ERROR_NONE, NULL);
}

static void attaching_failed(Connection *connection, Sc__ErrorCode code, const char *detail) {
        if (connection->state == CONNECTION_CONNECTING)
                connection->role->gateway->attached(connection, code, detail);
        else
                connection_disconnect(connection, DISCONNECT_SESSION_REVOKED);
}

void connection_attach_late(Connection *connection) {
        if (!LIST_EMPTY(&connection->attachments))
                attaching_failed(connection, ERROR_TIMEOUT, NULL);
}

/* --- answers --- */

static void retry_later(Link *link) {
        if (link->retrying)
                return;
        link->retrying = true;
        sd_event_source_set_time(link->retry, boottime_usec() + GATEWAY_RETRY_USEC);
        sd_event_source_set_enabled(link->retry, SD_EVENT_ONESHOT);
}

static void attachment_fail(Attachment *attachment, Sc__ErrorCode code, const char *detail) {
        Connection *connection = attachment->connection;

        if (code == ERROR_SESSION_REVOKED || connection->state == CONNECTION_CONNECTING)
                return attaching_failed(connection, code, detail);
        attachment->after = mfree(attachment->after);
        attachment_wait(attachment);
        retry_later(attachment->link);
}

/* The connection hears this conversation. */
static int confirm(Attachment *attachment, const Sc__Subscription *now) {
        Connection *connection = attachment->connection;

        if (!link_serves(attachment->link, now->conversation))
                return 0;
        Channel *channel = channel_open(connection->role, now->conversation, now->epoch, now->last_seq);
        if (!channel)
                return -ENOMEM;
        int r = connection_subscribe(connection, channel, now->last_seq);
        channel_unpin(connection->role, channel);
        return r;
}

static void apply_result(Attachment *attachment, const Sc__AttachResponse *response,
        const Sc__AttachResponse__Result *result) {
        Connection *connection = attachment->connection;
        Link *link = attachment->link;
        uint64_t serial = attachment->serial;

        FOREACH_ARRAY(place, result->subscriptions, result->n_subscriptions) {
                int r = *place < response->n_subscriptions
                                ? confirm(attachment, response->subscriptions[*place])
                                : -EBADMSG;
                if (r == -ECONNRESET)
                        return; /* and the attachment with it */
                if (r < 0)
                        return attachment_fail(attachment, ERROR_OVERLOADED, NULL);
        }
        if (!isempty(result->next)) {
                char *after = strdup(result->next);
                if (!after)
                        return attachment_fail(attachment, ERROR_OVERLOADED, NULL);
                free(attachment->after);
                attachment->after = after;
                return attachment_wait(attachment);
        }
        /* The routes changed between its pages: what the earlier ones confirmed does not count any more. */
        if (attachment->after && serial <= link->valid_since) {
                attachment->after = mfree(attachment->after);
                attachment->serial = ++connection->role->serial;
                attachment->again = true; /* the primary knows it */
                return attachment_wait(attachment);
        }
        attachment_free(attachment);
        if (connection_drop_unconfirmed(connection, link, serial) < 0)
                return;
        attaching_done(connection, link);
}

static void apply_response(AttachBatch *batch, const Sc__AttachResponse *response) {
        for (unsigned i = 0; i < batch->n; i++) {
                Attachment *attachment = batch->attachments[i];
                const Sc__AttachResponse__Result *result =
                        i < response->n_results ? response->results[i] : NULL;

                if (!attachment)
                        continue; /* its connection ended */
                if (!result)
                        attachment_fail(attachment, ERROR_INTERNAL, NULL);
                else if (result->error != ERROR_NONE)
                        attachment_fail(attachment, result->error, result->detail);
                else
                        apply_result(attachment, response, result);
        }
}

static void batch_free(AttachBatch *batch) {
        LIST_REMOVE(batch, in_link);
        batch->link->n_batches--;
        free(batch);
}

static void on_answer(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        AttachBatch *batch = userdata;
        Link *link = batch->link;
        ProtobufCMessage *response;
        _cleanup_arena_ Arena arena;

        arena_init(&arena, RESPONSE_ARENA_LIMIT);
        if (code == ERROR_NONE &&
                arena_unpack(&arena, &sc__attach_response__descriptor, payload, size, &response) < 0)
                code = ERROR_INTERNAL;
        if (code == ERROR_NONE)
                apply_response(batch, (const Sc__AttachResponse *) response);
        else
                for (unsigned i = 0; i < batch->n; i++)
                        if (batch->attachments[i])
                                attachment_fail(batch->attachments[i], code, detail);
        batch_free(batch);
        link_send_attachments(link);
}

/* --- sending --- */

/* The request in packed form; caller frees. NULL when out of memory. */
static uint8_t *pack_request(const AttachBatch *batch, size_t *ret_size) {
        Sc__AttachRequest request = SC__ATTACH_REQUEST__INIT;
        Sc__AttachRequest__Client clients[ATTACH_BATCH_MAX], *pointers[ATTACH_BATCH_MAX];

        for (unsigned i = 0; i < batch->n; i++) {
                const Connection *connection = batch->attachments[i]->connection;

                clients[i] = (Sc__AttachRequest__Client) SC__ATTACH_REQUEST__CLIENT__INIT;
                clients[i].client = (char *) connection->client;
                clients[i].user = (char *) connection_user(connection);
                clients[i].device = (char *) connection_device(connection);
                clients[i].session = (char *) connection_session(connection);
                clients[i].after = (char *) strempty(batch->attachments[i]->after);
                pointers[i] = &clients[i];
        }
        request.clients = pointers;
        request.n_clients = batch->n;
        *ret_size = sc__attach_request__get_packed_size(&request);
        uint8_t *payload = malloc(*ret_size);
        if (payload)
                sc__attach_request__pack(&request, payload);
        return payload;
}

static int send_batch(AttachBatch *batch) {
        size_t size;
        _cleanup_free_ uint8_t *payload = pack_request(batch, &size);

        if (!payload)
                return -ENOMEM;
        return rpc_client_start(batch->link->client, &method_gateway_attach,
                &(RpcMessage){
                        .method = method_gateway_attach.name,
                        .timeout_usec = BATCH_TIMEOUT_USEC,
                        .payload = payload,
                        .payload_size = size,
                },
                on_answer, batch, &batch->request);
}

static int send_waiting(Link *link) {
        AttachBatch *batch = new0(AttachBatch, 1);
        Attachment *attachment;

        if (!batch)
                return -ENOMEM;
        batch->link = link;
        while (batch->n < ATTACH_BATCH_MAX && (attachment = TAILQ_FIRST(&link->waiting))) {
                TAILQ_REMOVE(&link->waiting, attachment, in_link);
                attachment->batch = batch;
                attachment->index = batch->n;
                batch->attachments[batch->n++] = attachment;
        }
        LIST_INSERT_HEAD(&link->batches, batch, in_link);
        link->n_batches++;
        int r = send_batch(batch);
        if (r >= 0)
                return 0;
        for (unsigned i = 0; i < batch->n; i++)
                attachment_wait(batch->attachments[i]);
        batch_free(batch);
        return r;
}

void link_send_attachments(Link *link) {
        while (!link->retrying && link->n_batches < BATCHES_MAX && rpc_client_is_connected(link->client)) {
                /* Half of a batch at least is for those who connect, as long as there are any. */
                int r = link_reattach_some(
                        link, TAILQ_EMPTY(&link->waiting) ? ATTACH_BATCH_MAX : ATTACH_BATCH_MAX / 2);
                if (r >= 0 && TAILQ_EMPTY(&link->waiting))
                        return;
                if (!TAILQ_EMPTY(&link->waiting))
                        r = send_waiting(link);
                if (r < 0)
                        return retry_later(link);
        }
}

/* --- links that break or go --- */

void link_recall_attachments(Link *link) {
        while (!LIST_EMPTY(&link->batches)) {
                AttachBatch *batch = LIST_FIRST(&link->batches);

                rpc_client_forget(link->client, batch->request);
                for (unsigned i = 0; i < batch->n; i++)
                        if (batch->attachments[i])
                                attachment_wait(batch->attachments[i]);
                batch_free(batch);
        }
        Attachment *attachment;
        TAILQ_FOREACH(attachment, &link->waiting, in_link) {
                attachment->after = mfree(attachment->after);
                attachment->serial = ++link->gateway->role->serial;
        }
}

void link_drop_attachments(Link *link) {
        Attachment *attachment;

        link_recall_attachments(link);
        while ((attachment = TAILQ_FIRST(&link->waiting))) {
                Connection *connection = attachment->connection;

                attachment_free(attachment);
                attaching_done(connection, link);
        }
}
