/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP/1.1 connection: read a request, have it answered, read the next. Requests that a client sends
 * ahead (pipelining) wait in the buffer or the kernel until the one before is answered. */
#include <sys/epoll.h>

#include "fiber/suspend.h"
#include "log/log.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"
#include "web/http-internal.h"

/* Requests served in one turn to a client that sends them ahead. */
#define REQUESTS_PER_TURN 16U
/* How long a refused client may go on sending before the connection is closed. If it were closed at once,
 * the client's kernel would drop the answer. */
#define LINGER_USEC (2 * USEC_PER_SEC)
/* When the server drains: a connection without a request is closed when it has had none for so long, so that a
 * client that sends one after the other hears of the end by a response; and a request that has begun may take so
 * long to come. */
#define DRAIN_IDLE_USEC (200 * USEC_PER_MSEC)
#define DRAIN_REQUEST_USEC (2 * USEC_PER_SEC)
/* What TLS holds during a handshake: measured with OpenSSL 3.0, two buffers of a record and what it computes. */
#define HANDSHAKE_SIZE (48U * 1024U)

/* --- life --- */

void http_unref(HttpRequest *request) {
        if (--request->n_refs > 0)
                return;
        buffer_done(&request->in);
        http_body_done(request);
        buffer_done(&request->out);
        buffer_done(&request->tail_owned);
        free(request);
}

void http_leave(HttpRequest *request) {
        WebServer *server = http_server(request);

        request->state = HTTP_GONE;
        LIST_REMOVE(request, entry);
        request->io = sd_event_source_disable_unref(request->io);
        request->timer = sd_event_source_disable_unref(request->timer);
        (void) budget_set(&server->budget, &request->pending, 0);
        http_body_done(request);
        buffer_done(&request->out);
        request->transport = transport_free(request->transport);
}

void http_end_connection(HttpRequest *request) {
        WebServer *server = http_server(request);
        bool under_way = request->state == HTTP_HANDLING || request->state == HTTP_STREAMING;

        http_leave(request);
        /* A handler may let go of a request that it holds before this returns. */
        fiber_hold_resumptions();
        if (under_way && server->handlers.on_abort)
                server->handlers.on_abort(request, server->userdata);
        fiber_queue_wake(&request->waiters);
        peer_release(&request->peer);
        http_unref(request);
        fiber_release_resumptions();
        web_server_check_drained(server);
}

void http_connection_free(HttpRequest *request) {
        http_end_connection(request);
}

void http_set_timer(HttpRequest *request, uint64_t usec) {
        if (usec > 0)
                sd_event_source_set_time_relative(request->timer, usec);
        sd_event_source_set_enabled(request->timer, usec > 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/* --- the end of a response --- */

static void http_forget_request(HttpRequest *request) {
        buffer_consume(&request->in, request->head.size);
        if (request->in.size == 0)
                buffer_done(&request->in);
        http_body_done(request);
        request->head = (HttpHead){};
        request->chunked = (HttpChunked){};
        request->body_received = 0;
        request->body_complete = request->body_streamed = request->body_wanted = false;
        request->body_error = 0;
        request->response_without_body = false;
        request->userdata = NULL;
}

static void http_read_next(HttpRequest *request) {
        WebServer *server = http_server(request);

        request->state = HTTP_READING;
        request->looked = false;
        request->idle_since = boottime_usec();
        http_set_timer(request, server->draining ? DRAIN_IDLE_USEC : server->limits.request_timeout_usec);
}

/* The response is out: on to the next request, or to the end. */
static int http_finish(HttpRequest *request) {
        buffer_done(&request->out);
        buffer_done(&request->tail_owned);
        request->tail = NULL;
        request->written = request->tail_size = request->tail_written = 0;
        if (request->close && !request->linger) {
                http_shut(request);
                return -ECONNRESET;
        }
        if (request->close) {
                http_shut(request);
                buffer_done(&request->in);
                http_body_done(request);
                request->state = HTTP_LINGERING;
                http_set_timer(request, LINGER_USEC);
                return 0;
        }
        http_forget_request(request);
        http_read_next(request);
        return 0;
}

void http_go_on(HttpRequest *request) {
        if (request->driving)
                return;
        /* What cannot be done at once, and what fails, comes again on the loop. */
        if (request->state == HTTP_WRITING && http_flush(request) > 0 && !request->close &&
                !http_has_more(request))
                http_finish(request);
        http_wait(request);
}

/* --- requests --- */

int http_count_pending(HttpRequest *request) {
        size_t size = request->in.allocated + request->body.allocated;

        if (!transport_is_established(request->transport))
                size += HANDSHAKE_SIZE;
        return budget_set(
                &http_server(request)->budget, &request->pending, request->state == HTTP_READING ? size : 0);
}

/* Room is needed for others. */
static void on_evict(BudgetUse *use) {
        HttpRequest *request = CONTAINER_OF(use, HttpRequest, pending);

        buffer_done(&request->in);
        http_body_done(request);
        (void) budget_set(&http_server(request)->budget, use, 0);
        if (transport_is_established(request->transport))
                http_refuse(request, SC__ERROR_CODE__ERROR_OVERLOADED);
        else /* there is no way yet to tell why */
                http_end_connection(request);
}

/* The request is complete, or its body will be read by the handler. True: it became a WebSocket and `request` is
 * gone. */
static bool http_dispatch(HttpRequest *request) {
        WebServer *server = http_server(request);
        bool here = server->ws_path && streq(http_request_path(request), server->ws_path);

        if (request->head.upgrade_websocket && here)
                return http_upgrade(request);
        if (!server->handlers.on_request) {
                http_refuse(request,
                        here ? SC__ERROR_CODE__ERROR_UPGRADE_REQUIRED : SC__ERROR_CODE__ERROR_NOT_FOUND);
                return false;
        }
        request->state = HTTP_HANDLING;
        (void) http_count_pending(request);
        http_set_timer(request, 0);
        if (request->body_streamed) {
                request->held = true;
                request->n_refs++;
        }
        server->handlers.on_request(request, server->userdata);
        return false;
}

/* Nothing else is queued before a request is handled, so this is sent at once, or with the response. */
static void http_send_continue(HttpRequest *request) {
        if (request->head.expect_continue && !request->body_complete &&
                request->in.size == request->head.size) {
                (void) buffer_append_string(&request->out, "HTTP/1.1 100 Continue\r\n\r\n");
                (void) http_flush(request);
        }
        request->head.expect_continue = false;
}

/* What the head says of the body. */
static int http_begin_body(HttpRequest *request) {
        WebServer *server = http_server(request);
        uint64_t max = server->limits.max_body;

        request->response_without_body = streq(http_request_verb(request), "HEAD");
        if (server->handlers.on_head)
                request->body_streamed = server->handlers.on_head(request, &max, server->userdata);
        int r = http_body_begin(request, max);
        if (r >= 0 && !request->body_streamed)
                http_send_continue(request);
        return r;
}

/* Reads until the head is complete: 1; 0: more must come. */
static int http_read_head(HttpRequest *request, Sc__ErrorCode *ret_error) {
        const WebLimits *limits = &http_server(request)->limits;
        char chunk[HTTP_READ_SIZE];

        for (;;) {
                int r = request->in.size == 0 ? 0
                                              : http_head_parse(&request->head, (char *) request->in.data,
                                                        request->in.size, limits->max_headers, ret_error);
                if (r != 0)
                        return r < 0 ? r : http_begin_body(request) < 0 ? -EMSGSIZE : 1;
                ssize_t n = http_io_read(request, chunk, sizeof(chunk));
                if (n == -EAGAIN) {
                        (void) http_count_pending(request); /* the handshake may be over */
                        return 0;
                }
                if (n <= 0)
                        return n == 0 ? -ECONNRESET : (int) n;
                if (request->in.size == 0 && http_server(request)->draining)
                        http_set_timer(request, DRAIN_REQUEST_USEC);
                r = buffer_append(&request->in, chunk, (size_t) n);
                if (r >= 0)
                        r = http_count_pending(request);
                if (r < 0)
                        return r;
        }
}

/* The error that a request is refused with; ERROR_NONE: the connection is lost. */
static Sc__ErrorCode refusal_of(int r, Sc__ErrorCode of_head) {
        switch (r) {
        case -EBADMSG:
                return of_head != SC__ERROR_CODE__ERROR_NONE ? of_head
                                                             : SC__ERROR_CODE__ERROR_MALFORMED_REQUEST;
        case -EMSGSIZE:
                return SC__ERROR_CODE__ERROR_BODY_TOO_LARGE;
        case -ENOBUFS:
        case -ENOMEM:
                return SC__ERROR_CODE__ERROR_OVERLOADED;
        case -ETIMEDOUT:
                return SC__ERROR_CODE__ERROR_REQUEST_TIMEOUT;
        default:
                return SC__ERROR_CODE__ERROR_NONE;
        }
}

/* Reads until a request can be handled. 1: it can; 0: more must come, or it was refused. */
static int http_read(HttpRequest *request) {
        Sc__ErrorCode of_head = SC__ERROR_CODE__ERROR_NONE;
        int r = request->head.size > 0 ? 1 : http_read_head(request, &of_head);

        if (r > 0 && !request->body_streamed) {
                r = http_body_read(request);
                if (r > 0 && !request->body_complete)
                        r = -EMSGSIZE;
        }
        Sc__ErrorCode code = r < 0 ? refusal_of(r, of_head) : SC__ERROR_CODE__ERROR_NONE;
        if (code == SC__ERROR_CODE__ERROR_NONE)
                return r;
        http_refuse(request, code);
        return 0;
}

void http_request_refuse(HttpRequest *request, int r) {
        Sc__ErrorCode code = refusal_of(r, SC__ERROR_CODE__ERROR_NONE);

        if (request->state == HTTP_HANDLING && code != SC__ERROR_CODE__ERROR_NONE)
                http_refuse(request, code);
        else
                http_request_abort(request);
}

/* --- the machine --- */

static int http_discard(HttpRequest *request) {
        char dropped[HTTP_READ_SIZE];
        ssize_t n;

        do
                n = http_io_read(request, dropped, sizeof(dropped));
        while (n == (ssize_t) sizeof(dropped));
        return n == 0 || (n < 0 && n != -EAGAIN) ? -ECONNRESET : 0;
}

/* A handler waits for more of a streamed body. Sets *wake when it need not wait any longer. */
static int http_feed(HttpRequest *request, bool *wake) {
        if (!request->body_wanted)
                return 0;
        http_send_continue(request);
        int r = http_body_read(request);
        if (r < 0 && refusal_of(r, SC__ERROR_CODE__ERROR_NONE) == SC__ERROR_CODE__ERROR_NONE)
                return r;
        request->body_error = MIN(r, 0);
        *wake = r < 0 || request->body_complete || request->body.size > request->body_taken;
        return 0;
}

/* One step in the present state: 1 to go on, 0 to wait for events, negative to close. Sets *gone if `request`
 * was freed. */
static int http_step(HttpRequest *request, bool *wake, bool *gone) {
        int r;

        switch (request->state) {
        case HTTP_READING:
                r = http_read(request);
                if (r > 0)
                        *gone = http_dispatch(request);
                return r < 0 ? r : r > 0 || request->state != HTTP_READING;
        case HTTP_HANDLING:
                return http_feed(request, wake);
        case HTTP_STREAMING:
                r = http_flush(request);
                *wake = http_unsent(request) <= HTTP_STREAM_WINDOW / 2;
                if (r > 0)
                        http_set_timer(request, 0);
                return MIN(r, 0);
        case HTTP_WRITING:
                r = http_flush(request);
                if (r <= 0)
                        return r;
                r = http_finish(request);
                return r < 0 ? r : 1;
        default:
                return http_discard(request);
        }
}

static void note_failed_handshake(HttpRequest *request, int r) {
        log_peer((.error_number = -r), LOG_DEBUG, "TLS with %s failed: %s", request->peer.text,
                transport_error_text(request->transport));
        if (r == -EPROTOTYPE) /* it speaks HTTP without TLS, and can be told so */
                http_refuse_fd(http_server(request), transport_fd(request->transport),
                        SC__ERROR_CODE__ERROR_TLS_REQUIRED);
}

static void http_drive(HttpRequest *request) {
        unsigned n_requests = 0;
        bool gone = false, wake = false, again = false;
        int r = 1;

        request->driving = true;
        while (r > 0 && !gone) {
                again = request->state == HTTP_READING && n_requests++ >= REQUESTS_PER_TURN;
                if (again)
                        break;
                r = http_step(request, &wake, &gone);
        }
        if (gone)
                return;
        request->driving = false;
        if (r < 0) {
                if (!transport_is_established(request->transport))
                        note_failed_handshake(request, r);
                http_end_connection(request);
                return;
        }
        http_wait(request);
        if (again) /* comes back at once, behind the others */
                sd_event_source_set_io_events(request->io, EPOLLIN | EPOLLOUT);
        if (wake) /* the last thing: the handler may end the request */
                fiber_queue_wake(&request->waiters);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        HttpRequest *request = userdata;
        bool under_way = request->state == HTTP_HANDLING || request->state == HTTP_STREAMING;

        /* While a request waits for its answer nothing is read but its body, so the end of the stream is all that
         * can come: the peer has closed, or shut its side down, which cannot be told apart and counts as gone. */
        if ((events & (EPOLLHUP | EPOLLERR)) || (under_way && (events & EPOLLRDHUP)))
                http_end_connection(request);
        else
                http_drive(request);
        return 0;
}

/* The peer has sent too little of a streamed body while the handler waited for it. */
static void on_body_stalls(HttpRequest *request) {
        request->body_error = -ETIMEDOUT;
        fiber_queue_wake(&request->waiters);
}

/* Closing now would reset the connection, and the peer could not know whether its request was read. */
static bool http_something_came(const HttpRequest *request) {
        char byte;

        return transport_has_pending(request->transport) ||
               recv(transport_fd(request->transport), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void http_request_drop_ahead(HttpRequest *request) {
        request->close = request->linger = true;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        HttpRequest *request = userdata;

        if (request->state == HTTP_HANDLING)
                on_body_stalls(request);
        else if (request->state == HTTP_READING && request->in.size > 0) {
                buffer_done(&request->body);
                http_refuse(request, http_server(request)->draining ? SC__ERROR_CODE__ERROR_UNAVAILABLE
                                                                    : SC__ERROR_CODE__ERROR_REQUEST_TIMEOUT);
        } else if (request->state == HTTP_READING && !request->looked && http_something_came(request)) {
                request->looked = true; /* half a record of TLS, which has no end, counts once */
                http_set_timer(request, DRAIN_IDLE_USEC);
                http_drive(request);
        } else /* idle, or it does not take the response */
                http_end_connection(request);
        return 0;
}

int http_connection_new(WebServer *server, Transport *transport, Peer *peer) {
        HttpRequest *request = new0(HttpRequest, 1);
        int r;

        if (!request) {
                peer_release(peer);
                transport_free(transport);
                return -ENOMEM;
        }
        request->peer = *peer;
        request->transport = transport;
        request->n_refs = 1;
        request->pending.evict = on_evict;
        request->idle_since = boottime_usec();
        LIST_INSERT_HEAD(&server->requests, request, entry);
        r = sd_event_add_io(server->event, &request->io, transport_fd(transport), EPOLLIN, on_io, request);
        if (r >= 0)
                r = sd_event_add_time_relative(server->event, &request->timer, CLOCK_BOOTTIME,
                        server->limits.request_timeout_usec, 0, on_timer, request);
        if (r >= 0)
                r = http_count_pending(request);
        if (r < 0)
                http_end_connection(request);
        return r;
}

HttpRequest *http_connection_next(const HttpRequest *request) {
        return LIST_NEXT(request, entry);
}

void http_connection_drain(HttpRequest *request) {
        uint64_t now = boottime_usec(), idle = now - MIN(now, request->idle_since);

        if (request->state != HTTP_READING)
                return;
        /* A request that is here already is served: the timer comes after what is readable. */
        http_set_timer(request, request->in.size > 0      ? DRAIN_REQUEST_USEC
                                : idle >= DRAIN_IDLE_USEC ? 1
                                                          : DRAIN_IDLE_USEC - idle);
}

/* --- what handlers ask --- */

static const char *http_text(const HttpRequest *request, uint32_t offset) {
        return (const char *) request->in.data + offset;
}

const char *http_request_verb(const HttpRequest *request) {
        return http_text(request, request->head.verb);
}

const char *http_request_path(const HttpRequest *request) {
        return http_text(request, request->head.path);
}

int http_request_query(const HttpRequest *request,
        int (*parameter)(const char *name, const char *value, void *userdata), void *userdata) {
        _cleanup_free_ char *query = NULL;
        char *next, *value;
        int r;

        if (request->head.query == 0)
                return 0;
        query = strdup(http_text(request, request->head.query));
        if (!query)
                return -ENOMEM;
        next = query;
        while (next) {
                char *name = strsep(&next, "&");
                if (!*name)
                        continue;
                value = strchr(name, '=');
                if (value)
                        *value++ = '\0';
                if (http_percent_decode(name, true) < 0 || (value && http_percent_decode(value, true) < 0))
                        return -EINVAL;
                r = parameter(name, strempty(value), userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}

const char *http_request_header(const HttpRequest *request, const char *name) {
        int id = http_header_from_name(name);

        return id >= 0 && request->head.headers[id] > 0 ? http_text(request, request->head.headers[id])
                                                        : NULL;
}

const char *http_request_body(const HttpRequest *request, size_t *ret_size) {
        *ret_size = request->body.size;
        return request->body.size > 0 ? (const char *) request->body.data : "";
}

void http_request_free_body(HttpRequest *request) {
        http_body_done(request);
}

const char *http_request_address(const HttpRequest *request) {
        return request->peer.text;
}

void http_request_set_userdata(HttpRequest *request, void *userdata) {
        request->userdata = userdata;
}

void *http_request_get_userdata(const HttpRequest *request) {
        return request->userdata;
}
