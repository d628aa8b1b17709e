/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of HTTP share: http.c reads requests and drives the connection,
 * http-io.c is what lies below, http-body.c takes their bodies,
 * http-response.c makes responses, http-stream.c is for handlers on fibers, http-upgrade.c for WebSocket. */

#include <sys/uio.h>

#include "fiber/fiber.h"
#include "web/http-chunked.h"
#include "web/web-internal.h"

/* The connection is closed when less than this of a body, either way, comes forward within the request
 * time-out, while we wait for the peer. */
#define HTTP_PROGRESS_SIZE (64U * 1024U)
/* Bytes of a streamed body that wait for the handler, or for the peer. */
#define HTTP_STREAM_WINDOW (64U * 1024U)
/* Bytes read at once. */
#define HTTP_READ_SIZE (16U * 1024U)

typedef enum HttpState {
        HTTP_READING, /* a request, or waiting for one */
        HTTP_HANDLING, /* on_request was called, the response has not begun */
        HTTP_STREAMING, /* the response has begun, more of it comes */
        HTTP_WRITING, /* the response is complete */
        HTTP_LINGERING, /* the connection ends: drop what still comes */
        HTTP_GONE, /* the connection has ended; what is left is for the handler that holds it */
} HttpState;

struct HttpRequest {
        Peer peer;
        Transport *transport; /* NULL: gone, or handed on */
        HttpState state;
        sd_event_source *io, *timer;
        LIST_ENTRY(HttpRequest) entry;
        unsigned n_refs; /* the connection's, and that of a handler who holds the request */
        bool held; /* until http_respond(), http_response_end() or http_request_abort() */

        Buffer in; /* the head of the request, and behind it what has come and is not decoded yet */
        HttpHead head;
        Buffer body; /* decoded; of a stream: what the handler has not taken yet */
        HttpChunked chunked;
        uint64_t body_max, body_received; /* decoded bytes */
        size_t body_taken; /* of `body`, by the handler */
        bool body_complete, body_streamed, body_wanted; /* a handler waits for more of it */
        int body_error;
        BudgetUse pending; /* what it holds while it is not complete, and TLS for its handshake */
        uint64_t idle_since; /* on CLOCK_BOOTTIME: the end of the response before */

        Buffer out;
        size_t written;
        const uint8_t *tail; /* a body that is sent behind `out` without being copied */
        size_t tail_size, tail_written;
        Buffer tail_owned; /* its memory, if it is ours */
        uint64_t response_left; /* bytes of a streamed body that are still announced */
        bool response_chunked, response_without_body;

        uint64_t progress, progress_mark; /* bytes of bodies; where that stood when waiting began */
        uint64_t waited_usec; /* for the body of the request, since then */
        bool close; /* after the response */
        bool linger;
        bool looked; /* whether something came, when its time was over */
        bool driving; /* http_drive() is on the stack and continues by itself */
        FiberQueue waiters; /* the handler, for more of the body or for room */
        void *userdata;
};

static inline WebServer *http_server(const HttpRequest *request) {
        return request->peer.server;
}

/* --- http-io.c --- */
/* Sets what to wait for, as the state wants it. */
void http_wait(HttpRequest *request);
/* Bytes, 0 at the end of the stream, -EAGAIN, or another negative errno. */
ssize_t http_io_read(HttpRequest *request, void *buffer, size_t size);
/* 1: all is written, 0: the peer takes no more now. */
int http_flush(HttpRequest *request);
static inline size_t http_unsent(const HttpRequest *request) {
        return request->out.size - request->written + request->tail_size - request->tail_written;
}
/* More of the present or the next request is here already. */
bool http_has_more(const HttpRequest *request);
/* Nothing more will be written. */
void http_shut(HttpRequest *request);

/* --- http.c --- */
/* Tells the budget what the request holds: -ENOBUFS if that is too much. */
int http_count_pending(HttpRequest *request);
void http_unref(HttpRequest *request);
/* Leaves the server, and closes the connection if that was not taken. */
void http_leave(HttpRequest *request);
/* The connection is lost or given up: on_abort, and the end of it. */
void http_end_connection(HttpRequest *request);
void http_set_timer(HttpRequest *request, uint64_t usec);
/* From outside of http_drive(): goes on as far as that is possible at once. */
void http_go_on(HttpRequest *request);

/* --- http-body.c --- */
/* The head is complete: prepares for the body, of at most `max` bytes. -EMSGSIZE: it announces more. */
int http_body_begin(HttpRequest *request, uint64_t max);
/* Takes what lies in `in`, then reads from the peer: 1: there is as much as may be there, or all; 0: the peer has
 * no more now; -EBADMSG, -EMSGSIZE: refuse it; other errors: the connection is lost. */
int http_body_read(HttpRequest *request);
/* The first part of that: what lies in `in`. 0 or an error as above. */
int http_body_take(HttpRequest *request);
void http_body_done(HttpRequest *request);

/* --- http-response.c --- */
/* Ends with the head of a response in `out`; size: of the body, HTTP_SIZE_UNKNOWN: it comes in chunks. */
void http_response_head(HttpRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, uint64_t size);
/* The response is complete in `out` and `tail`: sends it. */
void http_response_complete(HttpRequest *request);
/* Answers with the error's status and a problem document, and closes. */
void http_refuse(HttpRequest *request, Sc__ErrorCode code);
void http_refuse_with(HttpRequest *request, Sc__ErrorCode code, unsigned status, const HttpHeader *headers,
        size_t n_headers);

/* --- http-upgrade.c --- */
/* A request for the server's WebSocket path that asks for an upgrade: true if the connection became a WebSocket,
 * and then `request` is gone; false: it was refused. */
bool http_upgrade(HttpRequest *request);
