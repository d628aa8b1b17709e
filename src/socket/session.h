/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One client connection: where it stands in the protocol, what it is subscribed to, what it waits for.
 *
 *     OPEN ──connect command──▶ CONNECTING ──token, session, attached──▶ CONNECTED
 *      └─────────────────────────────┴───────────── any end ───────────────▶ CLOSING ──closed──▶ freed
 *
 * Owned by its WebSocket: made when that opens, freed when it has closed. There are very many, so everything
 * here counts: no timers, no buffers while idle. A session that was disconnected does nothing more;
 * functions that may disconnect say so by a negative result (-ECONNRESET). */

#include <sys/queue.h>

#include "socket/channel.h"
#include "socket/codec.h"
#include "socket/protocol.h"
#include "socket/wheel.h"
#include "util/id.h"
#include "util/token-bucket.h"
#include "web/web.h"

typedef struct SocketRole SocketRole;
typedef struct User User;
typedef struct Pending Pending;
typedef struct Connecting Connecting;
typedef struct Attachment Attachment;

typedef enum SessionState {
        SESSION_OPEN,
        SESSION_CONNECTING,
        SESSION_CONNECTED,
        SESSION_CLOSING,
} SessionState;

/* Commands of one connection that wait for their answer; one more is refused. */
#define SESSION_MAX_PENDING 64U
/* Commands refused one after the other for coming too fast, before the connection ends. */
#define SESSION_MAX_REFUSED 100U
/* A reply beyond this is refused; the client must ask for less. */
#define SESSION_MAX_REPLY (8U << 20)
/* A token that has expired is tolerated for this long, so that a refresh under way can arrive. */
#define SESSION_EXPIRY_GRACE 25U

struct Session {
        SocketRole *role;
        WebSocket *socket;
        User *user; /* NULL until its token was verified, and when CLOSING */
        char *identity; /* session id, NUL, device, NUL */
        Connecting *connecting; /* the connect or refresh command under way, or NULL */
        Buffer *deferred; /* commands that came behind connect, until it is answered */
        TAILQ_ENTRY(Session) in_user, in_role;
        SubscriptionList subscriptions;
        LIST_HEAD(, Pending) pending;
        LIST_HEAD(, Attachment) attachments; /* requests of gateway.attach that wait for their answer */
        uint64_t attached_serial; /* of the gateway, when it was first attached; 0: never */
        WheelEntry wheel;
        TokenBucket commands;
        uint32_t allowance; /* the size of the message that was queued when nothing else was */
        uint32_t ping_at, pong_by, expires_at; /* wheel time; 0: none */
        uint16_t n_pending, n_refused; /* refused by the rate limit one after the other */
        uint8_t state, codec;
        bool codec_known;
        char client[UUID_TEXT_SIZE];
};

int session_new(Session **ret, SocketRole *role, WebSocket *socket);
/* The WebSocket is gone. */
Session *session_free(Session *session);
DEFINE_CLEANUP(Session *, session_free);

static inline const char *session_id(const Session *session) {
        return session->identity ?: "";
}
static inline const char *session_device(const Session *session) {
        return session->identity ? session->identity + strlen(session->identity) + 1 : "";
}
const char *session_user(const Session *session);

/* Handles one WebSocket message: any number of commands. */
void session_receive(Session *session, const char *data, size_t size, bool binary);

/* The deadline of the session, or of its ping, pong or token. */
void session_due(WheelEntry *entry, uint32_t now);

/* Ends the connection; harmless when that was done before. */
void session_disconnect(Session *session, Disconnect why);

/* Sends a whole message. -ECONNRESET: the session was or is now disconnected. */
int session_send(Session *session, Bytes *message);

/* Sends a reply, or holds it for the others of the same batch. -ECONNRESET as above. */
int session_reply(Session *session, const Client__Reply *reply);
/* Replies between the two become one message. Not nested; one session at a time. */
void session_batch_begin(Session *session);
void session_batch_end(Session *session);

/* Answers a command with an error: the code's name, a colon and the detail, if there is one. */
void session_reply_error(Session *session, uint32_t id, ProtocolError error, const char *detail);

/* The deadlines have changed: sets the nearest. */
void session_arm(Session *session);

/* From CONNECTING to CONNECTED, with the connect reply sent: handles what was deferred. */
void session_connected(Session *session);

/* From CONNECTING back to OPEN, after a connect command that failed and may be repeated. */
void session_reopen(Session *session);

/* --- the users that have sessions here --- */

typedef TAILQ_HEAD(SessionList, Session) SessionList;

struct User {
        UT_hash_handle hh;
        SessionList sessions;
        unsigned n_sessions;
        char id[];
};

User *user_find(SocketRole *role, const char *id);
/* Puts the session under its user, who is made with the first one: -EUSERS beyond the limit of connections,
 * -ENOMEM. */
int session_set_user(Session *session, const char *id);
/* Ends the sessions of that id, all of the user's if it is empty. */
void user_kick(SocketRole *role, const char *user, const char *session);
