/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The socket role as a whole: the WebSocket server, the connections on it, the gateway to the group
 * primaries. */

#include "socket/role-state.h"

/* Takes the verifier. */
int socket_role_new(SocketRole **ret, RoleProcess *process, TokenVerifier *verifier);
SocketRole *socket_role_free(SocketRole *role);
DEFINE_CLEANUP(SocketRole *, socket_role_free);

/* Makes role->server, which then is told where to listen. */
int socket_role_serve(SocketRole *role);
bool socket_role_is_alive(const SocketRole *role);
void socket_role_reload(SocketRole *role);
/* Sends all clients elsewhere; the process ends after the last. */
void socket_role_drain(SocketRole *role);
const char *socket_role_status(SocketRole *role);
size_t socket_role_statistics(SocketRole *role, BusStatistic *ret, size_t max);

/* The origin check. `allowed` is the configured list: empty means the same host, "*" any. Native clients
 * send none. */
bool origin_is_allowed(const char *origin, const char *host, const char *allowed);
