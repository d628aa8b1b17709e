/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* HTTP/1.1 and WebSocket on activated sockets, behind a narrow interface: no other layer sees the libraries.
 *
 * It owns parsing, limits and time-outs; it hands over whole requests and whole messages, and, to handlers on
 * fibers that ask for it, bodies of any size as streams. HTTP is parsed here, strictly (http-head.h; why not by
 * libwebsockets: web-internal.h), and so are the frames of WebSockets (websocket-frame.h); libwebsockets answers
 * their handshake and has what goes out.
 * Deliberately off: permessage-deflate (~90 KB a connection), HTTP/2 (unfixed holes in libwebsockets 4.1.6).
 *
 * Refusals are answered with a body by on_refused, then the connection is closed:
 *   ERROR_MALFORMED_REQUEST   what is not HTTP/1.1, could be read in two ways, or no WebSocket handshake
 *   ERROR_HTTP_VERSION_NOT_SUPPORTED   HTTP/2.0 and the like in the request line
 *   ERROR_NOT_IMPLEMENTED     a method that is none of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS; a transfer
 *                             coding besides chunked
 *   ERROR_EXPECTATION_FAILED  "Expect:" something else than 100-continue
 *   ERROR_URI_TOO_LONG        target beyond 4 KiB
 *   ERROR_HEADERS_TOO_LARGE   line and headers beyond max_headers, or more than 100 headers
 *   ERROR_BODY_TOO_LARGE      beyond max_body, by the announcement, or, of a chunked body, when it gets there
 *   ERROR_REQUEST_TIMEOUT     begun, but not there in time; one not begun is closed silently
 *   ERROR_PERMISSION_DENIED   on_upgrade said no
 *   ERROR_OVERLOADED, ERROR_RATE_LIMITED   more than max_connections, max_connections_per_address;
 *                             ERROR_OVERLOADED also: not complete, and room is needed for others (max_pending)
 *   ERROR_TLS_REQUIRED        HTTP without TLS to a listener with TLS
 *   ERROR_UNAVAILABLE         the server drains, and the request does not become complete
 *
 * Handlers run on the loop; they may answer, send and close at once, but not free the server. */

#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "proto/schema.h"
#include "transport/transport.h"
#include "util/bytes.h"
#include "web/loop.h"

typedef struct WebServer WebServer;
typedef struct HttpRequest HttpRequest; /* lives until answered, or until on_abort; see below for streams */
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
        /* The head of a request has come: true if the handler reads the body as a stream; *max_body, bytes of it,
         * may be changed. Optional: all come whole. */
        bool (*on_head)(HttpRequest *request, uint64_t *max_body, void *userdata);
        /* A whole request, or one whose body will be read as a stream. Answer now or later. NULL where there are
         * only WebSockets: then it is refused, at ws_path with ERROR_UPGRADE_REQUIRED. */
        void (*on_request)(HttpRequest *request, void *userdata);
        /* The peer closed its side before the answer, or does not take it, or the server ends. Forget the request;
         * or, if it is held for a stream, cancel the fiber. */
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
        /* A whole message; text is checked to be UTF-8, in which NUL is a character. Not NUL-terminated. */
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
/* The same for connections under TLS. Those that come while there is no context are closed. */
int web_server_listen_tls(WebServer *server, int listen_fd);
/* What new TLS connections use, as a server with ALPN "http/1.1"; takes a reference of its own. */
void web_server_set_tls(WebServer *server, TlsContext *tls);
bool web_server_has_tls(const WebServer *server);
/* Stops accepting, for draining; what is connected goes on. */
void web_server_stop_accepting(WebServer *server);
/* Stops accepting and ends the HTTP connections in good order: requests that have begun are read and answered,
 * with "Connection: close", those without a request are closed. Calls `drained` once, when none is left, perhaps at
 * once. A peer that takes its response too slowly can hold that up. */
void web_server_drain(WebServer *server, void (*drained)(void *userdata), void *userdata);
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
/* UTF-8, without the query, percent-decoded but for %2F and %25, which stay: split it at slashes, then give each
 * segment to http_percent_decode() of http-target.h. No segment is "." or "..". "*" for OPTIONS *. */
const char *http_request_path(const HttpRequest *request);
/* Calls back for each parameter of the query, decoded; stops at the first negative result and answers it.
 * -EINVAL for a bad escape. */
int http_request_query(const HttpRequest *request,
        int (*parameter)(const char *name, const char *value, void *userdata), void *userdata);
/* The value of a header (lower-case name, of the list in http-head.c), or NULL. */
const char *http_request_header(const HttpRequest *request, const char *name);
const char *http_request_body(const HttpRequest *request, size_t *ret_size);
/* The body has been read and is not needed any more. */
void http_request_free_body(HttpRequest *request);
/* The peer's address, without port. */
const char *http_request_address(const HttpRequest *request);
void http_request_set_userdata(HttpRequest *request, void *userdata);
void *http_request_get_userdata(const HttpRequest *request);

/* What the peer has sent ahead of the answer to this request, and what of it is still on its way, is not served:
 * the connection ends behind the answer. */
void http_request_drop_ahead(HttpRequest *request);

typedef struct HttpHeader {
        const char *name, *value;
} HttpHeader;

/* Answers and ends the request. headers: n of them, besides those about the content type and the body's length.
 * The body is copied. */
void http_respond(HttpRequest *request, unsigned status, const char *content_type, const HttpHeader *headers,
        size_t n_headers, const void *body, size_t size);
/* The same for a body that outlives the server, and is not copied; and for one that is taken over. */
void http_respond_static(HttpRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, const void *body, size_t size);
void http_respond_buffer(HttpRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, Buffer *body);

/* --- streams, for handlers on fibers ---
 *
 * A request whose body is read as a stream (on_head), and one whose response has begun by http_response_begin(),
 * is held: it lives until the handler ends it by http_respond(), http_response_end(), http_request_refuse() or
 * http_request_abort(). When its connection has ended these do nothing else, and the others answer -ECONNRESET;
 * on_abort is called all the same, so that the handler can be woken from other waits.
 *
 * At most 64 KiB of a body are in memory. The peer's time-out (request_timeout_usec for each 64 KiB) runs only
 * while we wait for the peer. Check who asks before reading: a stream is not part of max_pending. */

/* Up to `size` bytes of the body, at least one; 0 at its end; -ETIMEDOUT: the peer sends too slowly; -EBADMSG: a
 * malformed chunk; -EMSGSIZE: too long; -ENOMEM; -ECONNRESET; or what the fiber was cancelled with. May suspend. */
ssize_t http_request_read(HttpRequest *request, void *data, size_t size);
/* Refuses with the error that a negative result of http_request_read() stands for, and closes. */
void http_request_refuse(HttpRequest *request, int r);
/* Closes the connection; what the peer has of a response shows that it is not whole. */
void http_request_abort(HttpRequest *request);

#define HTTP_SIZE_UNKNOWN UINT64_MAX
/* Begins a response whose body of `size` bytes, or HTTP_SIZE_UNKNOWN (it is sent in chunks), comes in pieces. What
 * was not read of the request's body is dropped. Holds the request, also on failure: -ECONNRESET, -ENOMEM. */
int http_response_begin(HttpRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, uint64_t size);
/* Writes a piece, no faster than the peer reads. 0, -ECONNRESET, -ENOMEM, or what the fiber was cancelled with. May
 * suspend. */
int http_response_write(HttpRequest *request, const void *data, size_t size);
/* Ends the response; if it is shorter than announced, the connection. */
void http_response_end(HttpRequest *request);

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
/* The peer is signed in: what it sends is not counted in the server's budget for strangers any more. */
void websocket_set_signed_in(WebSocket *socket);
/* Sends a close frame behind what is queued, then closes; on_close follows, from the loop, after 5 s at the
 * latest each for the queue and for the peer's answer. Nothing more is sent or received. code: one that may
 * stand in a close frame. reason: at most 123 bytes, or NULL. */
void websocket_close(WebSocket *socket, unsigned code, const char *reason);
