/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One client connection: where it stands in the protocol, what it is subscribed to, what it waits for.
 *
 *      OPEN ──connect command──▶ CONNECTING ──token, session, attached──▶ CONNECTED
 *       │ ▲                        │     │                                    │
 *       │ └── refused, may retry ──┘     │                                    │
 *       └────────────────────────────────┴── any end ──▶ CLOSING ◀────────────┘
 *
 * It is owned by its WebSocket: made when that opens, freed when that has closed. There are very many of
 * them, so an idle one has no timer and no buffer of its own. A connection that is CLOSING does nothing
 * more; functions that may disconnect say so by -ECONNRESET. Receiving is in receive.h. */

#include <sys/queue.h>

#include "socket/connection/user.h"
#include "socket/protocol.h"
#include "socket/role-state.h"
#include "util/id.h"

typedef struct Subscription Subscription;
typedef struct PendingCommand PendingCommand;
typedef struct ConnectCommand ConnectCommand;
typedef struct Attachment Attachment;
typedef struct SendRun SendRun;
typedef struct Fetch Fetch;

typedef enum ConnectionState {
        CONNECTION_OPEN,
        CONNECTION_CONNECTING,
        CONNECTION_CONNECTED,
        CONNECTION_CLOSING,
} ConnectionState;

/* Commands of one connection that wait for their answer; one more is refused. */
#define CONNECTION_MAX_PENDING 64U
/* Commands refused one after the other for coming too fast, before the connection ends. */
#define CONNECTION_MAX_REFUSED 100U
/* Bytes of replies that wait to be read; with more of them no command is read, and no page is fetched. */
#define CONNECTION_MAX_WAITING (256U << 10)
/* Calls with large answers that are under way for one connection; further ones wait. */
#define CONNECTION_MAX_LARGE 2U
/* What a position takes in the connect command of a client that comes back, in JSON. So that it fits into a
 * frame, the client may tell no more of them: the subscriptions beyond are not recoverable. */
#define CONNECTION_POSITION_SIZE 160U
/* Bytes of a reply; the client has to ask for less at a time. */
#define CONNECTION_MAX_REPLY (8U << 20)
/* Seconds that a connection outlives its token, so that a refresh under way can arrive. */
#define CONNECTION_EXPIRY_GRACE 25U

struct Connection {
        SocketRole *role;
        WebSocket *socket;
        ConnectedUser *user; /* NULL until its token was verified, and when CLOSING */
        char *identity; /* session id, NUL, device, NUL */
        ConnectCommand *connect_command; /* connect or refresh, under way; NULL: none */
        Buffer *deferred; /* commands that came behind connect, until it is answered */
        TAILQ_ENTRY(Connection) in_user, in_role;
        TAILQ_HEAD(, Subscription) subscriptions; /* in the order in which they were made */
        LIST_HEAD(, PendingCommand) pending;
        LIST_HEAD(, SendRun) send_runs; /* messages under way, by conversation: see command/send-run.h */
        TAILQ_HEAD(, PendingCommand) large; /* of these: wait for others with large answers */
        LIST_HEAD(, Attachment) attachments; /* under way */
        uint64_t attached_serial; /* role->serial when it was first attached; 0: never */
        TAILQ_ENTRY(Connection) in_catch_up; /* of gateway/catch-up.c, with the next two */
        Fetch *fetch; /* under way for it */
        uint32_t n_subscriptions;
        uint32_t n_unannounced; /* subscriptions that the client does not know of yet */
        uint32_t n_recoverable; /* subscriptions whose position the client may tell when it comes back */
        TimerWheelEntry deadline; /* the next of the times below */
        uint32_t allowance; /* size of the message that was queued when nothing else was */
        uint32_t ping_at, pong_by, expires_at; /* timer_wheel_clock(); 0: none */
        uint32_t token_key; /* that signed its token */
        uint16_t n_pings, n_pongs; /* the pongs are as many as the pings but for those under way */
        uint16_t n_pending, n_refused; /* refused by the rate limit one after the other */
        uint8_t state, codec, catch_up, n_large;
        bool codec_known;
        bool truncated; /* the user has more conversations than a connection hears */
        bool truncated_told;
        bool paused; /* reads no commands until what waits was read */
        char client[UUID_TEXT_SIZE]; /* the id of this connection */
};

int connection_new(Connection **ret, SocketRole *role, WebSocket *socket);
/* The WebSocket is gone. */
Connection *connection_free(Connection *connection);
DEFINE_CLEANUP(Connection *, connection_free);

/* --- who it is --- */

/* Of the token; both are copied. -EUSERS: the user has as many connections as he may have. -ENOMEM. */
int connection_set_identity(Connection *connection, const TokenClaims *claims);
/* "" before. */
const char *connection_user(const Connection *connection);
static inline const char *connection_session(const Connection *connection) {
        return connection->identity ?: "";
}
static inline const char *connection_device(const Connection *connection) {
        return connection->identity ? connection->identity + strlen(connection->identity) + 1 : "";
}

/* --- states --- */

/* From CONNECTING back to OPEN: the connect command failed and may be repeated, with any token. */
void connection_reopen(Connection *connection);
/* Ends the connection; harmless when that was done before. */
void connection_disconnect(Connection *connection, Disconnect why);

/* --- deadlines --- */

/* A deadline of the connection has changed: arms the timer for the nearest. */
void connection_arm(Connection *connection);
/* What the timer wheel calls: of the connect command, ping, pong or token. */
void connection_on_deadline(TimerWheelEntry *entry, uint32_t now);

/* --- sending --- */

/* Sends a ping behind all replies so far, and in a batch as one of them. */
void connection_ping(Connection *connection);
/* A pong came. */
void connection_note_pong(Connection *connection);

/* Queues a whole message that the client did not ask for. -ECONNRESET: the connection was or is now
 * disconnected, for one because the client is slow. */
int connection_send(Connection *connection, Bytes *message);
/* Queues one that it has asked for, which does not make it slow; when much waits its commands are not read.
 * -ECONNRESET as above. */
int connection_send_reply(Connection *connection, Bytes *message);
/* Is there room for more of what it has asked for? If not, handlers->on_drained() says when. */
bool connection_has_room(Connection *connection);
/* What waited was read. */
void connection_drained(Connection *connection);
/* Queues a reply, or holds it back for the others of the same batch. -ECONNRESET as above. */
int connection_reply(Connection *connection, const Client__Reply *reply);
/* Replies between the two become one message. Not nested; one connection at a time. */
void connection_batch_begin(Connection *connection);
void connection_batch_end(Connection *connection);
/* Sets it, unless that is so, if one subscription more may be recoverable. */
void connection_count_recoverable(Connection *connection, bool *recoverable);
/* Answers a command with an error: the code's name, a colon and the detail, if there is one. */
void connection_reply_error(Connection *connection, uint32_t id, ProtocolError error, const char *detail);
