/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The links to the group primaries: one RPC connection to each address of the routes. They attach
 * connections to the conversations of their users, take what the primaries push, and fetch what connections
 * lack. */

#include "socket/gateway/catch-up.h"

int gateway_new(Gateway **ret, SocketRole *role);
/* After the last connection is gone. */
Gateway *gateway_free(Gateway *gateway);
DEFINE_CLEANUP(Gateway *, gateway_free);

/* Attaches a connection that is CONNECTING. `attached` comes once, not from within the call, and not if the
 * connection ends before: it has the subscriptions of its user then, each at the conversation's top, and its
 * client knows of none. ERROR_SESSION_REVOKED: the session was ended. -ENOMEM, -ENOTCONN: nothing was begun. */
int gateway_attach(Gateway *gateway, Connection *connection, GatewayAttached attached);
/* That takes too long: it fails. Harmless if the connection is not being attached. */
void gateway_attach_late(Connection *connection);

/* The connection ends, or may become another user's: forgets it here and at the primaries, without its
 * subscriptions. Harmless if it was never attached. */
void gateway_detach(Gateway *gateway, Connection *connection);

/* The table of routes has changed: links come and go. */
int gateway_update_routes(Gateway *gateway);

size_t gateway_n_links(const Gateway *gateway, size_t *ret_connected);
