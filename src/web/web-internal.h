/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of this layer share.
 *
 * A connection is accepted and counted in server.c and becomes an HttpRequest (http.c, http-internal.h), which
 * reads request after request from it and answers them. An upgrade to WebSocket hands its socket to libwebsockets
 * (websocket-lws.c), which then sends; what comes is read here.
 *
 * Why HTTP itself is not left to libwebsockets: 4.1.6 takes a bare LF, folded headers, "Name :" and
 * duplicate or nonsensical Content-Length, and reads freed memory when a keep-alive connection sends an
 * Upgrade it does not know; from its callbacks none of that can be noticed in time. So every head is parsed
 * strictly here, and libwebsockets sees only one head a connection, written by us. */

#include <netinet/in.h>
#include <sys/queue.h>
#include <uv.h>

#include "transport/transport.h"
#include "util/hash.h"
#include "web/budget.h"
#include "web/http-head.h"
#include "web/web.h"

typedef LIST_HEAD(, HttpRequest) HttpRequestList;
typedef LIST_HEAD(, WebSocket) WebSocketList;
typedef TAILQ_HEAD(, Deadline) DeadlineList;

struct WebLoop {
        sd_event *event;
        uv_loop_t uv;
        uv_poll_t poll; /* sd-event's epoll fd */
        uv_prepare_t prepare;
        uv_idle_t again; /* runs while there is more to do than one turn's share */
        int error;
        bool time_is_fresh; /* sd_event_now() is of this turn */

        int sockets_fd; /* epoll instance of all WebSockets; made with the first server that takes any */
        sd_event_source *sockets_source;
        uint8_t *read_buffer;
        struct lws_context *lws; /* made with the first server that takes WebSockets */
        struct lws_vhost *vhost;
        WebSocket *adopting; /* handed to libwebsockets just now, not yet taken by its first callback */
        TAILQ_HEAD(, WebSocket) waiting; /* WebSockets with something to do at the end of this turn */
        bool rearmed; /* event sources were armed after this turn has looked at them */
        Buffer scratch; /* one outgoing frame, with room for its header */
};

/* How many connections an address has. IPv6 counts by /64, the smallest network a site gets; all peers on
 * AF_UNIX are one. */
typedef struct Address {
        struct in6_addr key;
        unsigned n_connections;
        UT_hash_handle hh;
} Address;

typedef struct Listener {
        WebServer *server;
        int fd;
        bool tls; /* connections are those of server->tls */
        sd_event_source *source;
        SLIST_ENTRY(Listener) entry;
} Listener;

struct WebServer {
        WebLoop *loop;
        sd_event *event;
        WebLimits limits;
        char *ws_path;
        WebHandlers handlers;
        void *userdata;

        TlsContext *tls; /* NULL: connections to TLS listeners are closed */
        SLIST_HEAD(, Listener) listeners;
        sd_event_source *rearm; /* listens again after file descriptors ran out */
        Address *addresses;
        unsigned n_connections;
        Budget budget; /* of what is not signed in */
        bool draining;
        void (*drained)(void *userdata); /* NULL: was called, or nobody asks */
        void *drained_userdata;
        HttpRequestList requests;
        WebSocketList sockets;
        DeadlineList stalled, closing; /* of WebSockets; see websocket-deadline.c */
        sd_event_source *deadline_timer;
};

/* A counted connection; moves from HttpRequest to WebSocket with the fd. */
typedef struct Peer {
        WebServer *server;
        Address *address;
        char text[INET6_ADDRSTRLEN];
} Peer;

void peer_release(Peer *peer);
/* To be called when an HTTP connection has ended. */
void web_server_check_drained(WebServer *server);

/* To be called first in whatever libuv calls and leads to code that uses sd-event's timers. */
void web_loop_refresh_time(WebLoop *loop);

/* --- http.c --- */
/* Takes transport and peer. */
int http_connection_new(WebServer *server, Transport *transport, Peer *peer);
/* Calls on_abort if a request waits for its answer. */
void http_connection_free(HttpRequest *request);
/* The server drains: ends the connection when there is no request on it, or the response to it is out. */
void http_connection_drain(HttpRequest *request);
HttpRequest *http_connection_next(const HttpRequest *request);
/* Best effort: tells a connection that is not taken why, before the caller closes it. */
void http_refuse_fd(WebServer *server, int fd, Sc__ErrorCode code);

/* --- websocket.c --- */
/* Answers the upgrade with 101 and takes transport and peer, also on failure. `key` is the checked
 * Sec-WebSocket-Key; `protocol`: the server's subprotocol was offered, and is accepted. */
void websocket_adopt(WebServer *server, Transport *transport, Peer *peer, const char *key, bool protocol);
/* The server ends. */
void websocket_abandon(WebSocket *socket);

/* --- websocket-receive.c --- */
int websocket_receive_init(WebLoop *loop);
void websocket_receive_done(WebLoop *loop);

/* --- websocket-lws.c --- */
int lws_wire_prepare(WebLoop *loop);
/* Starts the end of libwebsockets' context; a second call, after the loop ran, completes it. */
void lws_wire_done(WebLoop *loop);

/* --- websocket-queue.c --- */
/* Writes what the turn has queued, or a fair share of it, at once, without asking the kernel first whether the socket
 * takes data: it nearly always does. True: the loop must take another turn before it sleeps. */
bool websocket_flush(WebLoop *loop);

/* --- websocket-deadline.c --- */
int websocket_on_deadline(sd_event_source *source, uint64_t usec, void *userdata);
