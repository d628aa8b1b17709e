/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A page of messages of one conversation, on its way to the connections that lack them. */

#include "socket/channel/channel.h"
#include "stonechat/v1/internal.pb-c.h"

/* Has the client read enough to be sent a page that others asked for? */
static inline bool page_fits(const Connection *connection) {
        return websocket_queued(connection->socket) + websocket_queued_replies(connection->socket) <=
               CONNECTION_MAX_WAITING;
}

/* Sends to each connection what it lacks of the messages behind `from`: to the one that asked, and to others that
 * have room. One that lacks messages that are stored no more begins anew. The channel is pinned. -ENOMEM: some
 * were left out. */
int channel_send_page(SocketRole *role, Channel *channel, uint64_t from,
        const Sc__RecoverResponse__Page *page, const Connection *asked);
