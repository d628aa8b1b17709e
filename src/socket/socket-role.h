/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The state of the socket role's process: all connections, users and channels of this gateway. Nothing of it
 * must survive: clients and group primaries rebuild it. */

#include "service/role.h"
#include "service/token.h"
#include "socket/gateway.h"
#include "socket/session.h"

typedef struct SocketStatistics {
        uint64_t connections_total, commands, refusals, deliveries, slow, gaps, reattached;
} SocketStatistics;

struct SocketRole {
        RoleProcess *process;
        const Conf *conf;
        TokenKey *key;
        WebServer *server; /* NULL in tests */
        Gateway *gateway;
        SessionList sessions;
        unsigned n_sessions, n_connected;
        User *users; /* by id */
        Channel *channels; /* by conversation */
        Wheel wheel;
        Session *batch; /* the session whose replies are being collected */
        Buffer batch_buffer;
        Bytes *ping[N_CODECS];
        bool draining;
        SocketStatistics statistics;
        char status[128];
};

/* Takes the key. */
int socket_role_new(SocketRole **ret, RoleProcess *process, TokenKey *key);
SocketRole *socket_role_free(SocketRole *role);
DEFINE_CLEANUP(SocketRole *, socket_role_free);

/* Serves clients on an activated listening socket; takes the fd. */
int socket_role_listen(SocketRole *role, int listen_fd);
void socket_role_reload(SocketRole *role);
/* Sends all clients elsewhere; the process ends after the last. */
void socket_role_drain(SocketRole *role);
const char *socket_role_status(SocketRole *role);
size_t socket_role_statistics(SocketRole *role, BusStatistic *ret, size_t max);

/* The origin check. `allowed` is the configured list: empty means the same host, "*" any. Native clients
 * send none. */
bool origin_is_allowed(const char *origin, const char *host, const char *allowed);
