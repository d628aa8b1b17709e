/* SPDX-License-Identifier: Apache-2.0 */

/* How a connection gets every message of its user's conversations once and in order, although the group
 * primaries and this gateway share nothing but a stream of frames.
 *
 * What it rests on
 *
 *  1. The messages of a conversation are numbered without gaps. A channel has a top, the largest seq that
 *     this gateway has heard of, and each subscription a position, the seq that was sent last. A message that
 *     is next is sent, an older one dropped. What comes too early only raises the top, and so does what comes
 *     while a client cannot be sent anything.
 *  2. A subscription below the top is behind. What it lacks is fetched with gateway.recover, page by page, and
 *     the next page only when its client has read what waits (catch-up.c). So no gap, from whatever cause,
 *     loses a message or ends a connection; nothing of what is pushed has to be kept for later.
 *  3. gateway.attach registers a connection at the primary at once, and is answered with the tops of its
 *     user's conversations as they stand when the answer is written. Answers and pushes of a primary come in
 *     the order in which it wrote them. So what was pushed before the answer is covered by the tops, and what is
 *     pushed behind it is for the subscriptions that the answer made.
 *
 * Attaching
 *
 * A new connection has one attachment for each primary, and its connect command is answered when the last of
 * them is done. An attachment waits in its link's queue, is sent with others in a batch, and answered with
 * them; a user with very many conversations gets them in pages, for each of which the attachment waits once
 * more. As few batches are under way at a time, those that come meanwhile make the next ones large.
 * A position that the client brings from an earlier connection becomes that of the subscription, which is
 * behind then (command/connect.c).
 *
 * Attaching again
 *
 * A primary forgets a gateway when their connection breaks, and a new primary does not know it yet. So when a
 * link is connected (again), and when the routes give it other shards, every connection is attached again,
 * through that link alone (reattach.c). The subscriptions stay meanwhile, and what is pushed is sent if it is
 * next, but nothing is fetched for them until they are confirmed by the answer: it raises their tops to what
 * was missed. Those that it did not confirm end, as the user is no member any more. role->serial orders this:
 * it grows with each attachment and each change of membership; an attachment remembers the serial of its
 * beginning, a subscription that of its last confirmation. One that is younger than the attachment was made by
 * a push meanwhile, and stays.
 *
 * What can fail
 *
 *    the session was ended      ERROR_SESSION_REVOKED: the client is disconnected and has to sign in.
 *    another refusal            A connect command gets the error, and may be repeated. A connection that is
 *                               attached again waits, and is sent once more after a while.
 *    it takes too long          So it is with a connect command (4 s).
 *    the link breaks            What was sent waits again, from its first page.
 *    the routes drop the link   Its attachments are done: other links serve its shards.
 *    the connection ends        The primary is told. As it takes requests in their order, that cannot overtake
 *                               the attachment. */
#include "socket/gateway/attachment.h"

static void leave_batch(Attachment *attachment) {
        if (attachment->batch)
                attachment->batch->attachments[attachment->index] = NULL;
        attachment->batch = NULL;
}

void attachment_wait(Attachment *attachment) {
        leave_batch(attachment);
        TAILQ_INSERT_TAIL(&attachment->link->waiting, attachment, in_link);
}

void attachment_free(Attachment *attachment) {
        if (attachment->batch)
                leave_batch(attachment);
        else
                TAILQ_REMOVE(&attachment->link->waiting, attachment, in_link);
        LIST_REMOVE(attachment, in_connection);
        free(attachment->after);
        free(attachment);
}

int attachment_new(Connection *connection, Link *link) {
        Attachment *attachment = new0(Attachment, 1);

        if (!attachment)
                return -ENOMEM;
        attachment->connection = connection;
        attachment->link = link;
        attachment->again = connection->state == CONNECTION_CONNECTED;
        attachment->serial = ++connection->role->serial;
        LIST_INSERT_HEAD(&connection->attachments, attachment, in_connection);
        attachment_wait(attachment);
        return 0;
}

bool connection_is_attaching(const Connection *connection, const Link *link) {
        const Attachment *attachment;

        LIST_FOREACH(attachment, &connection->attachments, in_connection)
                if (attachment->link == link)
                        return true;
        return false;
}
