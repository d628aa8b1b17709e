/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A WebSocket, as websocket.c (receiving, life) and websocket-queue.c (sending) see it. */

#include "web/web-internal.h"

typedef struct Queued Queued;
typedef struct Stall Stall;

struct WebSocket {
        Peer peer; /* server NULL: on_close was called, only the memory is left */
        struct lws *wsi;
        void *userdata;
        LIST_ENTRY(WebSocket) entry;
        TAILQ_ENTRY(WebSocket) in_waiting;

        STAILQ_HEAD(, Queued) queue;
        size_t queued, queued_replies; /* bytes, each message with QUEUED_OVERHEAD; of pushes, of replies */
        Stall *stall; /* while the kernel takes nothing */

        Buffer message; /* what came of a message so far */
        bool open; /* on_open was called, on_close not yet */
        bool closing; /* nothing more is taken from or for the peer */
        bool dropping; /* the rest of a message that was refused is still coming */
        bool slow;
        bool protocol; /* the server's subprotocol was offered */
        bool waiting; /* in loop->waiting */
        bool wants_drained; /* on_drained is to be called when the queue is empty */
        bool paused; /* nothing is read */

        uint16_t close_code; /* of websocket_close() */
        char *close_reason;
};

static inline WebServer *websocket_server(const WebSocket *socket) {
        return socket->peer.server;
}

/* --- websocket.c --- */
/* Closes without a close frame after so many seconds or LWS_TO_KILL_ASYNC; from the loop, never from inside
 * the call. */
void websocket_close_by_timer(WebSocket *socket, int sec);

/* --- websocket-queue.c --- */
/* Writes until the kernel takes no more, and asks to be called again if something is left. Negative: the
 * connection is broken. */
int websocket_write_queue(WebSocket *socket);
bool websocket_queue_is_empty(const WebSocket *socket);
void websocket_clear_queue(WebSocket *socket);
/* Forgets everything about sending. */
void websocket_end_sending(WebSocket *socket);
