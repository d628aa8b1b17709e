/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* HTTP/1.1 and WebSocket on activated sockets: a narrow interface over libwebsockets, which no other layer
 * sees.
 *
 * It owns parsing, limits and time-outs; it hands over whole requests and whole messages. Per-address limits
 * are applied in the accept loop. Deliberately off: permessage-deflate (~90 KB a connection), HTTP/2
 * (unfixed holes in 4.1.6).
 *
 * Refusals: request line or headers too large, a body without Content-Length, chunked, duplicated or beyond
 * the limit, or one that does not arrive in time are answered by on_refused with the error's code, then the
 * connection is closed. */

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
        size_t max_queue; /* bytes waiting for one WebSocket; beyond it is closed as slow */
        uint64_t request_timeout_usec; /* from accept or the last response to the whole request; the upgrade
                                          too */
        unsigned max_connections, max_connections_per_address; /* 0: no limit */
} WebLimits;

typedef struct WebHandlers {
        /* --- HTTP --- */
        /* A whole request. Answer now or later by http_respond(). */
        void (*on_request)(HttpRequest *request, void *userdata);
        /* The peer went away before the answer: forget the request. */
        void (*on_abort)(HttpRequest *request, void *userdata);
        /* Fills in the body of a refusal (a problem document); its content type is application/problem+json.
         */
        void (*on_refused)(Sc__ErrorCode code, Buffer *body, void *userdata);

        /* --- WebSocket; NULL in a server without --- */
        /* An upgrade request on ws_path: false refuses it with 403 (the origin check). origin and host may
         * be NULL. */
        bool (*on_upgrade)(const char *origin, const char *host, void *userdata);
        void (*on_open)(WebSocket *socket, void *userdata);
        /* A whole message; text is checked to be UTF-8. */
        void (*on_message)(WebSocket *socket, const char *data, size_t size, bool binary, void *userdata);
        /* The queue ran empty after it had been filled: room for more. Optional. */
        void (*on_drained)(WebSocket *socket, void *userdata);
        /* slow: closed because its queue was full. */
        void (*on_close)(WebSocket *socket, bool slow, void *userdata);
} WebHandlers;

/* `ws_path` is where upgrades are taken ("/connection/websocket"), with `ws_protocol` as optional
 * subprotocol; NULL: HTTP only. */
int web_server_new(WebServer **ret, WebLoop *loop, sd_event *event, const WebLimits *limits,
        const char *ws_path, const WebHandlers *handlers, void *userdata);
WebServer *web_server_free(WebServer *server);
DEFINE_CLEANUP(WebServer *, web_server_free);

/* Accepts on an activated listening socket; takes the fd. */
int web_server_listen(WebServer *server, int listen_fd);
/* Stops accepting, for draining; what is connected goes on. */
void web_server_stop_accepting(WebServer *server);
/* New limits after a reload; they hold for new requests and connections. */
void web_server_set_limits(WebServer *server, const WebLimits *limits);
unsigned web_server_n_connections(const WebServer *server);

/* --- HttpRequest --- */
const char *http_request_verb(const HttpRequest *request); /* "GET" */
const char *http_request_path(const HttpRequest *request); /* percent-decoded, no query */
/* Calls back for each parameter of the query, decoded; stops at the first negative result and answers it. */
int http_request_query(const HttpRequest *request,
        int (*parameter)(const char *name, const char *value, void *userdata), void *userdata);
/* The value of a header (lower-case name, of the list in http.c), or NULL. */
const char *http_request_header(const HttpRequest *request, const char *name);
const char *http_request_body(const HttpRequest *request, size_t *ret_size);
/* The peer's address, without port. */
const char *http_request_address(const HttpRequest *request);
void http_request_set_userdata(HttpRequest *request, void *userdata);
void *http_request_get_userdata(const HttpRequest *request);

typedef struct HttpHeader {
        const char *name, *value;
} HttpHeader;

/* Answers and ends the request. headers: n of them, besides Content-Type and Content-Length. Body is copied.
 */
void http_respond(HttpRequest *request, unsigned status, const char *content_type, const HttpHeader *headers,
        size_t n_headers, const void *body, size_t size);

/* --- WebSocket --- */
const char *websocket_address(const WebSocket *socket);
void websocket_set_userdata(WebSocket *socket, void *userdata);
void *websocket_get_userdata(const WebSocket *socket);
/* Queues one whole message, sharing the bytes (takes a reference). Beyond max_queue the connection is closed
 * as slow and -ENOBUFS answered. */
int websocket_send(WebSocket *socket, Bytes *message, bool binary);
size_t websocket_queued(const WebSocket *socket);
/* Sends a close frame behind what is queued, then closes; on_close follows. reason: at most 123 bytes. */
void websocket_close(WebSocket *socket, unsigned code, const char *reason);
