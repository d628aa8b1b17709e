/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A WebSocket, as the files see it that make it up:
 *
 *      websocket.c            its life: the answer to the handshake, the closing handshake, its end
 *      websocket-frame.c      decodes what a client sends
 *      websocket-receive.c    reads, and makes whole messages of frames
 *      websocket-queue.c      what waits to be sent, and how it goes out
 *      websocket-deadline.c   peers that take nothing, or do not let go
 *      websocket-wire.c       how bytes go in and out; of plain connections by libwebsockets (websocket-lws.c)
 *
 * There are very many of them, and most are idle: an idle one has no buffer of its own. What is read goes through one
 * buffer for all, and lies there until it is handled. A WebSocket is freed from its own event, from a timer or from
 * websocket_flush(), never inside of a call of another layer: handlers that end one only mark it. */

#include "web/web-internal.h"
#include "web/websocket-frame.h"

typedef struct Queued Queued;
typedef struct Deadline Deadline;

/* A message whose end has not come yet. */
typedef struct PartialMessage {
        WebSocket *socket;
        Buffer buffer;
        BudgetUse use; /* until the peer is signed in */
} PartialMessage;

struct WebSocket {
        Peer peer;
        struct lws *wsi; /* of a plain connection */
        Transport *transport; /* of one under TLS */
        void *userdata;
        LIST_ENTRY(WebSocket) entry;
        TAILQ_ENTRY(WebSocket) in_waiting;

        STAILQ_HEAD(, Queued) queue;
        size_t queued, queued_replies; /* bytes, each message with QUEUED_OVERHEAD; of pushes, of replies */
        Buffer *rest; /* under TLS, what is left to be written of the last frame; NULL: nothing */
        Bytes *pong; /* the answer to the latest ping; NULL: none is due */
        Deadline *deadline; /* NULL: none runs */

        FrameReader reader;
        PartialMessage *partial;
        char *close_reason;
        uint32_t dropped; /* bytes that came when nothing was read any more */
        uint32_t events; /* that epoll waits for */
        uint16_t
                close_code; /* of the close frame that is to be sent; CLOSE_NO_STATUS: an empty one; 0: none */

        bool open : 1; /* on_open was called, on_close not yet */
        bool closing : 1; /* nothing more is taken from or for the peer */
        bool close_sent : 1;
        bool peer_closed : 1; /* its close frame has come */
        bool failed : 1; /* we end the connection without waiting for the peer's close frame */
        bool broken : 1; /* to be freed as soon as that is possible */
        bool slow : 1;
        bool waiting : 1; /* in loop->waiting */
        bool wants_drained : 1; /* on_drained is to be called when the queue is empty */
        bool paused : 1; /* nothing is read */
        bool protocol : 1; /* the server's subprotocol was offered */
        bool watched : 1; /* by epoll, for `events` */
        bool signed_in : 1; /* does not count in the server's budget */
};

static inline WebServer *websocket_server(const WebSocket *socket) {
        return socket->peer.server;
}

/* --- websocket.c --- */
/* Calls on_close, and closes the connection. */
void websocket_free(WebSocket *socket);
/* To be freed by websocket_flush(). */
void websocket_break(WebSocket *socket);
/* The protocol was violated, or a limit reached: drops what is queued, and what still comes; closes with `code` and
 * `reason` (may be NULL, a literal). */
void websocket_fail(WebSocket *socket, unsigned code, const char *reason);
/* What is to be done next after reading or writing: the closing handshake, the end. False: it is gone. */
bool websocket_advance(WebSocket *socket);

/* The handshake was answered. */
void websocket_open(WebSocket *socket);

/* --- websocket-receive.c --- */
void websocket_drop_partial(WebSocket *socket);
/* Reads what has come. Negative: the connection is broken, or has ended. */
int websocket_read(WebSocket *socket);

/* --- websocket-queue.c --- */
/* Writes until the kernel takes no more. Negative: the connection is broken. */
int websocket_write_queue(WebSocket *socket);
/* Nothing is left to be sent. */
bool websocket_is_drained(const WebSocket *socket);
/* Forgets what has not begun to go out. */
void websocket_clear_queue(WebSocket *socket);
/* Has websocket_flush() look at it at the end of the turn. */
void websocket_set_waiting(WebSocket *socket, bool waiting);
/* Only while the connection is not blocked, as all that writes. */
int websocket_write_close(WebSocket *socket);

/* --- websocket-wire.c --- */
/* Bytes before a payload that writing may overwrite. */
#define FRAME_HEADROOM 16U
int websocket_fd(const WebSocket *socket);
/* As read(2), with -errno. */
ssize_t websocket_read_bytes(WebSocket *socket, void *buffer, size_t size);
/* More can be read although the kernel does not say so. */
bool websocket_has_pending(const WebSocket *socket);
/* Has epoll watch the connection for what is to be waited for now. */
int websocket_watch(WebSocket *socket);
void websocket_unwatch(WebSocket *socket);
/* What the kernel does not take is kept: then the connection is blocked until websocket_flush() comes to it again. */
int websocket_write_frame(WebSocket *socket, FrameOpcode opcode, uint8_t *payload, size_t size);
int websocket_write_rest(WebSocket *socket);
bool websocket_is_blocked(const WebSocket *socket);
/* Says that nothing more will come from us. */
int websocket_shutdown(WebSocket *socket);
/* Takes the transport, and answers the handshake. */
int websocket_wire_open(WebSocket *socket, Transport *transport, const char *key);
void websocket_wire_free(WebSocket *socket);
void websocket_accept_key(const char *key, char ret[static 32]);

/* --- websocket-lws.c --- */
/* Takes fd and socket, also on failure; websocket_open() follows from the loop. */
void lws_wire_adopt(WebSocket *socket, int fd, const char *key);
int lws_wire_write(struct lws *wsi, FrameOpcode opcode, uint8_t *payload, size_t size);
bool lws_wire_is_blocked(struct lws *wsi);
int lws_wire_fd(struct lws *wsi);
/* Not from inside of its callbacks. */
void lws_wire_free(struct lws *wsi);

/* --- websocket-deadline.c --- */
/* While something waits and the kernel takes nothing. */
void websocket_begin_stall(WebSocket *socket);
void websocket_end_stall(WebSocket *socket);
/* From now on the connection has a few seconds to come to its end. */
void websocket_begin_closing(WebSocket *socket);
void websocket_end_deadline(WebSocket *socket);
