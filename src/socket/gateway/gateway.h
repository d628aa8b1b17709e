/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The links to the group primaries: one RPC connection to each address of the routes. They attach
 * connections to the conversations of their users, and take what the primaries push. */

#include "socket/gateway/gateway-state.h"

int gateway_new(Gateway **ret, SocketRole *role);
/* After the last connection is gone. */
Gateway *gateway_free(Gateway *gateway);
DEFINE_CLEANUP(Gateway *, gateway_free);

/* Attaches a connection that is CONNECTING, with the positions its client gave; copies what it needs.
 * `attached` comes once, not from within the call, and not if the connection ends before. If it makes the
 * connection CONNECTED, what was pushed meanwhile follows. ERROR_SESSION_REVOKED: the session was ended.
 * -ENOMEM, -ENOBUFS, -ENOTCONN: nothing was sent. */
int gateway_attach(Gateway *gateway, Connection *connection, Sc__Position **positions, size_t n_positions,
        GatewayAttached attached);

/* The connection ends, or may become another user's: forgets it here and at the primaries. Harmless if it
 * was never attached. */
void gateway_detach(Gateway *gateway, Connection *connection);

/* The table of routes has changed: links come and go. */
int gateway_update_routes(Gateway *gateway);

size_t gateway_n_links(const Gateway *gateway, size_t *ret_connected);
