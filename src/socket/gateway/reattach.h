/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Attaching connections again to a primary that has forgotten them, or serves other shards than before. */

#include "socket/gateway/gateway-state.h"

/* Begins with all connections that were attached before; link_send_attachments() does the rest. */
void link_reattach(Link *link);
/* The link is broken: nothing more is begun. */
void link_reattach_stop(Link *link);
/* The connection ends: the link goes on with the next one. */
void link_reattach_skip(Link *link, const Connection *connection);
/* Lets up to n more connections wait to be attached. -ENOMEM: some are left. */
int link_reattach_some(Link *link, unsigned n);
/* The primary has told all: ends the subscriptions that it did not confirm. -ECONNRESET if the connection was
 * disconnected. */
int connection_drop_unconfirmed(Connection *connection, const Link *link, uint64_t serial);
