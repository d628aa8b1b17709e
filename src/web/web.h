/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* HTTP/1.1 and WebSocket on activated sockets, behind a narrow interface: no other layer sees the libraries.
 *
 * It owns parsing, limits and time-outs; it hands over whole requests and whole messages. HTTP is parsed
 * here, strictly (http-head.h; why not by libwebsockets: web-internal.h); libwebsockets speaks WebSocket.
 * Deliberately off: permessage-deflate (~90 KB a connection), HTTP/2 (unfixed holes in libwebsockets 4.1.6).
 *
 * Refusals are answered with a body by on_refused, then the connection is closed:
 *   ERROR_MALFORMED_REQUEST   what is not HTTP/1.1, could be read in two ways, or no WebSocket handshake
 *   ERROR_URI_TOO_LONG        target beyond 4 KiB
 *   ERROR_HEADERS_TOO_LARGE   line and headers beyond max_headers, or more than 100 headers
 *   ERROR_LENGTH_REQUIRED     a chunked body: bodies come by Content-Length only
 *   ERROR_BODY_TOO_LARGE      beyond max_body, by the announcement
 *   ERROR_REQUEST_TIMEOUT     begun, but not there in time; one not begun is closed silently
 *   ERROR_PERMISSION_DENIED   on_upgrade said no
 *   ERROR_OVERLOADED, ERROR_RATE_LIMITED   more than max_connections, max_connections_per_address
 *
 * Handlers run on the loop; they may answer, send and close at once, but not free the server. */

#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "proto/schema.h"
#include "util/bytes.h"
#include "web/loop.h"

typedef struct WebServer WebServer;
typedef struct HttpRequest HttpRequest; /* lives until answered, or until on_abort */
typedef struct WebSocket WebSocket; /* lives until on_close returns */

typedef struct WebLimits {
        size_t max_body; /* bytes of a request body */
        size_t max_headers; /* bytes of request line and headers, at most 16 KiB */
        size_t max_message; /* bytes of a WebSocket message */
        size_t max_queue; /* bytes of pushes waiting for one WebSocket, 32 more a message; closed as slow beyond */
        size_t max_coalesced; /* bytes of a frame that takes several messages of the queue: of text, with a
                               * newline between them; of binary, one behind the other. 0: one each */
        size_t max_pending; /* bytes of all peers together that are not signed in (budget.h); 0: no limit */
        uint64_t request_timeout_usec; /* from accept or the last response to the whole request or upgrade */
        uint64_t
                stall_timeout_usec; /* a WebSocket whose peer takes nothing of what waits for so long is closed as
                                      * slow; 0: no limit */
        unsigned max_connections, max_connections_per_address; /* 0: no limit */
} WebLimits;

typedef struct WebHandlers {
        /* --- HTTP --- */
        /* A whole request. Answer now or later by http_respond(). NULL where there are only WebSockets: then
         * it is refused, at ws_path with ERROR_UPGRADE_REQUIRED. */
        void (*on_request)(HttpRequest *request, void *userdata);
        /* The peer closed its side before the answer, or the server ends: forget the request. */
        void (*on_abort)(HttpRequest *request, void *userdata);
        /* Fills in the body of a refusal (a problem document); its content type is
         * application/problem+json. */
        void (*on_refused)(Sc__ErrorCode code, Buffer *body, void *userdata);

        /* --- WebSocket; NULL in a server without --- */
        /* An upgrade request on ws_path: false refuses it with 403 (the origin check). origin and host may
         * be NULL. */
        bool (*on_upgrade)(const char *origin, const char *host, void *userdata);
        /* The subprotocol that is accepted from those who offer it; NULL: none. */
        const char *ws_protocol;
        void (*on_open)(WebSocket *socket, void *userdata);
        /* A whole message; text is checked to be UTF-8 without NUL. Not NUL-terminated. */
        void (*on_message)(WebSocket *socket, const char *data, size_t size, bool binary, void *userdata);
        /* Once for each websocket_notify_drained(): the last of the queue was handed to the kernel. Optional. */
        void (*on_drained)(WebSocket *socket, void *userdata);
        /* Exactly once after on_open. slow: closed because its queue was full, or the peer took nothing. */
        void (*on_close)(WebSocket *socket, bool slow, void *userdata);
} WebHandlers;

/* `ws_path` is where upgrades are taken ("/connection/websocket"); NULL: HTTP only. -EIO: libwebsockets'
 * plug-in for libuv is missing. */
int web_server_new(WebServer **ret, WebLoop *loop, sd_event *event, const WebLimits *limits,
        const char *ws_path, const WebHandlers *handlers, void *userdata);
/* Closes everything, with on_abort and on_close where they are due. Before web_loop_free(), and not from a
 * handler. */
WebServer *web_server_free(WebServer *server);
DEFINE_CLEANUP(WebServer *, web_server_free);

/* Accepts on an activated listening socket; takes the fd. */
int web_server_listen(WebServer *server, int listen_fd);
/* Stops accepting, for draining; what is connected goes on. */
void web_server_stop_accepting(WebServer *server);
/* New limits after a reload; they hold for new requests and connections. */
void web_server_set_limits(WebServer *server, const WebLimits *limits);
unsigned web_server_n_connections(const WebServer *server);

typedef struct WebStatistics {
        size_t pending; /* bytes of those who are not signed in */
        uint64_t n_evicted; /* who were refused to make room for others */
} WebStatistics;
void web_server_get_statistics(const WebServer *server, WebStatistics *ret);

/* --- HttpRequest --- */
const char *http_request_verb(const HttpRequest *request); /* "GET" */
/* Percent-decoded UTF-8, no query; no segment is "." or "..". "*" for OPTIONS *. */
const char *http_request_path(const HttpRequest *request);
/* Calls back for each parameter of the query, decoded; stops at the first negative result and answers it.
 * -EINVAL for a bad escape. */
int http_request_query(const HttpRequest *request,
        int (*parameter)(const char *name, const char *value, void *userdata), void *userdata);
/* The value of a header (lower-case name, of the list in http-head.c), or NULL. */
const char *http_request_header(const HttpRequest *request, const char *name);
const char *http_request_body(const HttpRequest *request, size_t *ret_size);
/* The peer's address, without port. */
const char *http_request_address(const HttpRequest *request);
void http_request_set_userdata(HttpRequest *request, void *userdata);
void *http_request_get_userdata(const HttpRequest *request);

typedef struct HttpHeader {
        const char *name, *value;
} HttpHeader;

/* Answers and ends the request. headers: n of them, besides Content-Type and Content-Length. Body is
 * copied. */
void http_respond(HttpRequest *request, unsigned status, const char *content_type, const HttpHeader *headers,
        size_t n_headers, const void *body, size_t size);

/* --- WebSocket --- */
const char *websocket_address(const WebSocket *socket);
void websocket_set_userdata(WebSocket *socket, void *userdata);
void *websocket_get_userdata(const WebSocket *socket);
/* Queues one whole message that the peer did not ask for, sharing the bytes (takes a reference); the queue goes
 * out before the loop sleeps. Beyond max_queue the connection is closed as slow, from the loop, and -ENOBUFS
 * answered; -ENOTCONN when it is closing already. */
int websocket_send(WebSocket *socket, Bytes *message, bool binary);
/* The same for what the peer has asked for: it stands in the same queue, but never makes the connection slow. Who
 * answers bounds it, by taking no more requests while too much waits: websocket_pause_reading(). */
int websocket_reply(WebSocket *socket, Bytes *message, bool binary);
/* Of pushes, as max_queue counts, and of replies in the same way. What the kernel has taken is not among them,
 * nor one frame that it is taking just now. */
size_t websocket_queued(const WebSocket *socket);
size_t websocket_queued_replies(const WebSocket *socket);
/* Has on_drained called once, from the loop, when nothing is queued any more. False, and no call: that is so
 * already. */
bool websocket_notify_drained(WebSocket *socket);
/* Reads nothing more from the peer, so that TCP holds it back, until told otherwise; messages that were read
 * already may still come. The peer's end is not noticed meanwhile, so pause only while something is queued: then
 * the stall time-out sees it. */
void websocket_pause_reading(WebSocket *socket, bool paused);
/* Sends a close frame behind what is queued, then closes; on_close follows, from the loop, after 5 s at the
 * latest each for the queue and for the peer's answer. Nothing more is sent or received. code: one that may
 * stand in a close frame. reason: at most 123 bytes, or NULL. */
void websocket_close(WebSocket *socket, unsigned code, const char *reason);
