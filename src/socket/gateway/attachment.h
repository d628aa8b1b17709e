/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Attaches connections to group primaries, many with one request, so that they get the messages of their
 * users' conversations. attachment.c explains why none is lost or sent twice. */

#include "socket/gateway/gateway-state.h"

/* One connection that is to be attached to one primary. */
struct Attachment {
        TAILQ_ENTRY(Attachment) in_link; /* while it waits */
        LIST_ENTRY(Attachment) in_connection;
        Connection *connection;
        Link *link;
        AttachBatch *batch; /* that it was sent with; NULL: it waits */
        unsigned index; /* in the batch */
        bool again; /* the connection was attached before */
        uint64_t serial; /* role->serial when it began */
        char *after; /* the page that comes next begins behind this conversation; NULL: the first one */
};

/* Attachments that were sent with one request. */
#define ATTACH_BATCH_MAX 256U /* as the rules of AttachRequest say */
struct AttachBatch {
        LIST_ENTRY(AttachBatch) in_link;
        Link *link;
        uint64_t request; /* of the RPC client */
        unsigned n;
        Attachment *attachments[ATTACH_BATCH_MAX]; /* in the order of the request; NULL: it is gone */
};

/* One that waits, for a connection that is CONNECTING, or (again) CONNECTED. -ENOMEM. */
int attachment_new(Connection *connection, Link *link);
/* Lets one that was sent, or is in neither place, wait at the end of the queue. */
void attachment_wait(Attachment *attachment);
/* Takes it from where it is. */
void attachment_free(Attachment *attachment);

/* Is the connection being attached to this primary? */
bool connection_is_attaching(const Connection *connection, const Link *link);
