/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The state of the socket role that its folders share: the connections, users and channels of this gateway.
 * Nothing of it has to survive the process: clients and group primaries build it again.
 *
 * The folders stand above this and above each other in this order: connection (one client connection),
 * channel (who gets what is pushed), gateway (the links to the group primaries), command (what clients ask
 * for). socket-role.c puts them together. */

#include <sys/queue.h>

#include "service/charge.h"
#include "service/role.h"
#include "service/token-verifier.h"
#include "socket/codec.h"
#include "socket/timer-wheel.h"
#include "web/web.h"

typedef struct SocketRole SocketRole;
typedef struct Connection Connection;
typedef struct ConnectedUser ConnectedUser;
typedef struct Channel Channel;
typedef struct Gateway Gateway;

typedef TAILQ_HEAD(ConnectionList, Connection) ConnectionList;

typedef struct SocketStatistics {
        uint64_t connections_total, commands, refusals, deliveries, slow;
        uint64_t gaps; /* messages that a connection could not be sent when they came */
        uint64_t reattached; /* connections */
        uint64_t recovered; /* messages sent in pages */
} SocketStatistics;

/* What the folder connection calls of those above it. */
typedef struct ConnectionHandlers {
        /* A command of a connection that is OPEN or CONNECTED; it may disconnect the connection. `data` or
         * NULL: see codec_read(); it may be changed. */
        void (*on_command)(Connection *connection, const Client__Command *command, json_t *data);
        /* One that is going to be refused, as it came too fast. */
        void (*on_refused)(Connection *connection, const Client__Command *command, json_t *data);
        /* Called once, when the connection is CLOSING: what stands above forgets it. */
        void (*on_closing)(Connection *connection);
        /* It has been CONNECTING for too long. */
        void (*on_late)(Connection *connection);
        /* What waited to be read was read. */
        void (*on_drained)(Connection *connection);
        /* It lacks messages. Does not disconnect it. */
        void (*on_behind)(Connection *connection);
} ConnectionHandlers;

struct SocketRole {
        RoleProcess *process;
        const Conf *conf;
        Charges *charges;
        TokenVerifier *token_verifier;
        WebServer *server; /* NULL in tests */
        Gateway *gateway;
        const ConnectionHandlers *handlers;
        ConnectionList connections;
        unsigned n_connections, n_signed_in;
        ConnectedUser *users; /* by id */
        Channel *channels; /* by conversation */
        TimerWheel timer_wheel;
        Connection *batch; /* the connection whose replies are being collected */
        Buffer batch_buffer;
        Bytes *ping[N_CODECS];
        /* A logical clock, which orders attachments and subscriptions: see gateway/attachment.c. */
        uint64_t serial;
        bool draining;
        SocketStatistics statistics;
        char status[128];
};
