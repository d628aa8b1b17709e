/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Attaches a connection to group primaries, so that it gets the messages of its user's conversations from
 * its positions on. attachment.c explains why none is lost or sent twice. */

#include "socket/gateway/gateway-state.h"

/* One request of gateway.attach, to one primary. */
typedef struct AttachmentRequest {
        Attachment *attachment;
        Link *link; /* NULL: it left the routes */
        Arena arena;
        Sc__AttachResponse *response; /* in the arena; NULL: none yet, or an error */
        bool answered;
} AttachmentRequest;

/* The last answer is there; the attachment is freed after this. attachment->connection is NULL if the
 * connection ended meanwhile. */
typedef void (*AttachmentDone)(Attachment *attachment);

/* One or several requests that belong together. Lives until the last answer. */
struct Attachment {
        TAILQ_ENTRY(Attachment) in_gateway;
        LIST_ENTRY(Attachment) in_connection;
        Gateway *gateway;
        Connection *connection; /* NULL: it ended */
        char *user;
        char client[UUID_TEXT_SIZE];
        uint64_t serial; /* role->serial when it began */
        AttachmentDone done;
        GatewayAttached attached; /* for done(): of a new connection */
        bool overflowed; /* pushes are missing in the push buffer, so it cannot succeed */
        Sc__ErrorCode failure; /* of any request */
        char detail[128];
        unsigned n_waiting, n_requests;
        AttachmentRequest requests[];
};

/* Begins to attach the connection with these positions, through one link or (NULL) through all. `done` comes
 * once, not from within the call. -ENOMEM, -ENOBUFS, -ENOTCONN: not one request could be sent. */
int attachment_new(Attachment **ret, Gateway *gateway, Connection *connection, Link *link,
        Sc__Position **positions, size_t n_positions, AttachmentDone done);

/* Is a request of the connection to this primary still without answer? */
bool connection_is_attaching(const Connection *connection, const Link *link);

/* The connection ends, or may become another user's: undoes its attachments, now or when they are done. */
void connection_detach(Gateway *gateway, Connection *connection);

/* The link is broken, or (removed) leaves the routes. */
void attachments_link_lost(Link *link, bool removed);

/* Keep what was pushed for the attachments that are under way. */
void attachments_buffer_delivery(Gateway *gateway, Delivery *delivery);
void attachments_buffer_membership(Gateway *gateway, const void *payload, size_t size);
