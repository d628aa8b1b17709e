/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP/1.1 connection: read a request, have it answered, read the next. Requests that a client sends
 * ahead (pipelining) wait in the buffer or the kernel until the one before is answered. */
#include <stdio.h>
#include <sys/epoll.h>

#include "log/log.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"
#include "web/web-internal.h"

/* Requests served in one turn to a client that sends them ahead. */
#define REQUESTS_PER_TURN 16U
/* How long a refused client may go on sending before the connection is closed. If it were closed at once,
 * the client's kernel would drop the answer. */
#define LINGER_USEC (2 * USEC_PER_SEC)
/* The connection is closed when less than this of the response is read within the request time-out. */
#define PROGRESS_SIZE (64U * 1024U)

typedef enum HttpState {
        HTTP_READING, /* a request, or waiting for one */
        HTTP_HANDLING, /* on_request was called, http_respond not yet */
        HTTP_WRITING,
        HTTP_LINGERING, /* the connection ends: drop what still comes */
} HttpState;

struct HttpRequest {
        Peer peer;
        int fd;
        HttpState state;
        sd_event_source *io, *timer;
        LIST_ENTRY(HttpRequest) entry;

        Buffer in; /* the request's head and body, and perhaps the beginning of the next */
        HttpHead head;
        Buffer out;
        size_t written, progress; /* of out; where it stood when the timer was set */
        bool close; /* after the response */
        bool linger;
        bool driving; /* http_drive() is on the stack and continues by itself */
        void *userdata;
};

static void http_drive(HttpRequest *request);

static WebServer *http_server(const HttpRequest *request) {
        return request->peer.server;
}

/* --- life --- */

static void http_release(HttpRequest *request) {
        LIST_REMOVE(request, entry);
        sd_event_source_disable_unref(request->io);
        sd_event_source_disable_unref(request->timer);
        buffer_done(&request->in);
        buffer_done(&request->out);
        peer_release(&request->peer);
        safe_close(request->fd);
        free(request);
}

void http_connection_free(HttpRequest *request) {
        WebServer *server = http_server(request);

        if (request->state == HTTP_HANDLING && server->handlers.on_abort)
                server->handlers.on_abort(request, server->userdata);
        http_release(request);
}

static void http_set_timer(HttpRequest *request, uint64_t usec) {
        if (usec > 0)
                sd_event_source_set_time_relative(request->timer, usec);
        sd_event_source_set_enabled(request->timer, usec > 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void http_wait_for(HttpRequest *request, uint32_t events) {
        sd_event_source_set_io_events(request->io, events);
}

/* --- responses --- */

static const char *status_text(unsigned status) {
        static const struct {
                unsigned status;
                const char *text;
        } texts[] = {{200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"},
                {304, "Not Modified"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"},
                {404, "Not Found"}, {405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"},
                {411, "Length Required"}, {413, "Content Too Large"}, {414, "URI Too Long"},
                {415, "Unsupported Media Type"}, {426, "Upgrade Required"}, {429, "Too Many Requests"},
                {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
                {503, "Service Unavailable"}, {504, "Gateway Timeout"}, {507, "Insufficient Storage"}};

        FOREACH_ARRAY(t, texts, ELEMENTSOF(texts))
                if (t->status == status)
                        return t->text;
        return "";
}

/* A value with a line break would end the header and begin another. */
static bool header_is_safe(const HttpHeader *header) {
        return header->value && !strpbrk(header->name, "\r\n: ") && !strpbrk(header->value, "\r\n");
}

static void append_format(Buffer *out, const char *format, ...) _printf_(2, 3);
static void append_format(Buffer *out, const char *format, ...) {
        char line[512];
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(line, sizeof(line), format, ap);
        va_end(ap);
        if (n > 0)
                buffer_append(out, line, MIN((size_t) n, sizeof(line) - 1));
}

static void append_head(Buffer *out, unsigned status, const char *content_type, const HttpHeader *headers,
        size_t n_headers, size_t size, bool close) {
        time_t now = time(NULL);
        char date[64];
        struct tm tm;

        strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
        append_format(out, "HTTP/1.1 %u %s\r\nDate: %s\r\n", status, status_text(status), date);
        if (content_type)
                append_format(out, "Content-Type: %s\r\n", content_type);
        if (status >= 200 && status != 204)
                append_format(out, "Content-Length: %zu\r\n", size);
        FOREACH_ARRAY(header, headers, n_headers)
                if (header_is_safe(header)) {
                        buffer_append_string(out, header->name);
                        buffer_append_string(out, ": ");
                        buffer_append_string(out, header->value);
                        buffer_append_string(out, "\r\n");
                }
        if (close)
                buffer_append_string(out, "Connection: close\r\n");
        buffer_append_string(out, "\r\n");
}

/* 1: all is written, 0: the peer takes no more now. */
static int http_flush(HttpRequest *request) {
        while (request->written < request->out.size) {
                ssize_t n = send(request->fd, request->out.data + request->written,
                        request->out.size - request->written, MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                request->written += (size_t) n;
                if (request->written - request->progress >= PROGRESS_SIZE) {
                        request->progress = request->written;
                        http_set_timer(request, http_server(request)->limits.request_timeout_usec);
                }
        }
        return 1;
}

/* The response is out: on to the next request, or to the end. */
static int http_finish(HttpRequest *request) {
        buffer_done(&request->out);
        request->written = request->progress = 0;
        if (request->close && !request->linger)
                return -ECONNRESET;
        if (request->close) {
                shutdown(request->fd, SHUT_WR);
                buffer_done(&request->in);
                request->state = HTTP_LINGERING;
                http_set_timer(request, LINGER_USEC);
                return 0;
        }
        buffer_consume(&request->in, request->head.size + request->head.content_length);
        if (request->in.size == 0)
                buffer_done(&request->in);
        request->head = (HttpHead){};
        request->userdata = NULL;
        request->state = HTTP_READING;
        http_set_timer(request, http_server(request)->limits.request_timeout_usec);
        return 0;
}

/* From outside of http_drive(): write what the socket takes at once; the rest happens on the loop. A failure
 * shows there as well. */
static void http_write_now(HttpRequest *request) {
        if (http_flush(request) <= 0 || request->close ||
                request->in.size > request->head.size + request->head.content_length)
                return http_wait_for(request, EPOLLOUT);
        http_finish(request);
        http_wait_for(request, EPOLLIN);
}

void http_respond(HttpRequest *request, unsigned status, const char *content_type, const HttpHeader *headers,
        size_t n_headers, const void *body, size_t size) {
        const char *verb =
                request->head.verb > 0 || request->head.size > 0 ? http_request_verb(request) : "";

        assert_se(request->state == HTTP_HANDLING);
        request->close |= !request->head.keep_alive;
        append_head(&request->out, status, content_type, headers, n_headers, size, request->close);
        if (!streq(verb, "HEAD") && status >= 200 && status != 204 && status != 304)
                buffer_append(&request->out, body, size);
        if (request->out.error < 0) { /* out of memory: nothing sensible can be sent */
                buffer_done(&request->out);
                request->close = true;
        }
        request->state = HTTP_WRITING;
        http_set_timer(request, http_server(request)->limits.request_timeout_usec);
        if (!request->driving)
                http_write_now(request);
}

static void refusal_body(WebServer *server, Sc__ErrorCode code, Buffer *body) {
        if (server->handlers.on_refused)
                server->handlers.on_refused(code, body, server->userdata);
}

/* Answers with the error's status and closes. */
static void http_refuse_with(HttpRequest *request, Sc__ErrorCode code, unsigned status,
        const HttpHeader *headers, size_t n_headers) {
        _cleanup_buffer_ Buffer body = {};
        bool driving = request->driving;

        refusal_body(http_server(request), code, &body);
        log_peer((.error = schema_error(code)->name), LOG_DEBUG, "Refused a request of %s",
                request->peer.text);
        request->close = request->linger = true;
        request->state = HTTP_HANDLING;
        request->driving = true;
        http_respond(request, status, "application/problem+json", headers, n_headers, body.data, body.size);
        request->driving = driving;
}

static void http_refuse(HttpRequest *request, Sc__ErrorCode code) {
        http_refuse_with(request, code, schema_error(code)->http, NULL, 0);
}

void http_refuse_fd(WebServer *server, int fd, Sc__ErrorCode code) {
        _cleanup_buffer_ Buffer body = {}, out = {};
        char dropped[4096];

        refusal_body(server, code, &body);
        append_head(&out, schema_error(code)->http, "application/problem+json", NULL, 0, body.size, true);
        buffer_append(&out, body.data, body.size);
        if (out.error >= 0)
                (void) !send(fd, out.data, out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        shutdown(fd, SHUT_WR);
        while (recv(fd, dropped, sizeof(dropped), MSG_DONTWAIT) == (ssize_t) sizeof(dropped))
                ;
}

/* --- requests --- */

static bool websocket_key_is_valid(const char *key) {
        /* 16 bytes in base64: 22 characters, "==" */
        static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        return strlen(key) == 24 && strspn(key, base64) == 22 && streq(key + 22, "==");
}

/* Checks the handshake (RFC 6455 section 4.2.1); true if the connection may become a WebSocket. */
static bool http_check_upgrade(HttpRequest *request) {
        const HttpHeader wanted[] = {{"Sec-WebSocket-Version", "13"}, {"Upgrade", "websocket"}};
        const char *key = http_request_header(request, "sec-websocket-key");
        const char *version = http_request_header(request, "sec-websocket-version");
        WebServer *server = http_server(request);

        /* What comes behind the head was sent without waiting for the answer, as the RFC demands. */
        if (!streq(http_request_verb(request), "GET") || request->head.content_length > 0 ||
                request->in.size > request->head.size || !key || !websocket_key_is_valid(key))
                http_refuse(request, SC__ERROR_CODE__ERROR_MALFORMED_REQUEST);
        else if (!version || !streq(version, "13"))
                http_refuse_with(
                        request, SC__ERROR_CODE__ERROR_MALFORMED_REQUEST, 426, wanted, ELEMENTSOF(wanted));
        else if (server->handlers.on_upgrade &&
                 !server->handlers.on_upgrade(http_request_header(request, "origin"),
                         http_request_header(request, "host"), server->userdata))
                http_refuse(request, SC__ERROR_CODE__ERROR_PERMISSION_DENIED);
        else
                return true;
        return false;
}

/* Is the server's subprotocol among those that the client offers? */
static bool http_offers_protocol(const HttpRequest *request) {
        const char *wanted = http_server(request)->handlers.ws_protocol;
        const char *offered = http_request_header(request, "sec-websocket-protocol");

        while (wanted && offered && *offered) {
                offered += strspn(offered, " \t,");
                size_t n = strcspn(offered, " \t,");
                if (n == strlen(wanted) && strncmp(offered, wanted, n) == 0)
                        return true;
                offered += n;
        }
        return false;
}

/* Hands the connection to websocket.c and ends this object. */
static void http_upgrade(HttpRequest *request) {
        WebServer *server = http_server(request);
        int fd = TAKE_FD(request->fd);
        Peer peer = request->peer;
        bool protocol = http_offers_protocol(request);
        char key[32];

        strcpy(key, http_request_header(request, "sec-websocket-key")); /* 24 characters, checked */
        request->peer.server = NULL;
        http_release(request);
        websocket_adopt(server, fd, &peer, key, protocol);
}

/* The request is complete. 1: it became a WebSocket and `request` is gone. */
static int http_dispatch(HttpRequest *request) {
        WebServer *server = http_server(request);

        if (request->head.upgrade_websocket && server->ws_path &&
                streq(http_request_path(request), server->ws_path)) {
                if (!http_check_upgrade(request))
                        return 0;
                http_upgrade(request);
                return 1;
        }
        if (!server->handlers.on_request) {
                bool here = server->ws_path && streq(http_request_path(request), server->ws_path);
                http_refuse(request,
                        here ? SC__ERROR_CODE__ERROR_UPGRADE_REQUIRED : SC__ERROR_CODE__ERROR_NOT_FOUND);
                return 0;
        }
        request->state = HTTP_HANDLING;
        http_set_timer(request, 0);
        server->handlers.on_request(request, server->userdata);
        return 0;
}

/* 1: the head is there and acceptable; 0: not yet, or refused (then the state is HTTP_WRITING). */
static int http_parse(HttpRequest *request) {
        const WebLimits *limits = &http_server(request)->limits;
        Sc__ErrorCode code = SC__ERROR_CODE__ERROR_NONE;
        int r;

        if (request->head.size > 0)
                return 1;
        if (request->in.size == 0)
                return 0;
        r = http_head_parse(
                &request->head, (char *) request->in.data, request->in.size, limits->max_headers, &code);
        if (r > 0 && request->head.content_length > limits->max_body) {
                code = SC__ERROR_CODE__ERROR_BODY_TOO_LARGE;
                r = -EBADMSG;
        }
        if (r < 0) {
                http_refuse(request, code);
                return 0;
        }
        if (r > 0 && request->head.expect_continue &&
                request->in.size < request->head.size + request->head.content_length) {
                static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
                (void) !send(request->fd, go_on, sizeof(go_on) - 1, MSG_NOSIGNAL);
        }
        return r;
}

/* Reads until a request is complete. 1: it is; 0: more must come, or it was refused. */
static int http_read(HttpRequest *request) {
        char chunk[16384];

        for (;;) {
                size_t missing = sizeof(chunk);
                ssize_t n;
                int r;

                r = http_parse(request);
                if (request->state != HTTP_READING)
                        return 0;
                if (r > 0) {
                        size_t size = request->head.size + request->head.content_length;
                        if (request->in.size >= size)
                                return 1;
                        missing = MIN(size - request->in.size, sizeof(chunk));
                }
                n = recv(request->fd, chunk, missing, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                if (n == 0)
                        return -ECONNRESET;
                r = buffer_append(&request->in, chunk, (size_t) n);
                if (r < 0)
                        return r;
        }
}

/* --- the machine --- */

static int http_discard(HttpRequest *request) {
        char dropped[16384];
        ssize_t n;

        do
                n = recv(request->fd, dropped, sizeof(dropped), 0);
        while (n == (ssize_t) sizeof(dropped));
        return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) ? -ECONNRESET : 0;
}

/* One step in the present state: 1 to go on, 0 to wait for events, negative to close. Sets *gone if `request`
 * was freed. */
static int http_step(HttpRequest *request, uint32_t *events, bool *gone) {
        int r;

        switch (request->state) {
        case HTTP_READING:
                *events = EPOLLIN;
                r = http_read(request);
                if (r > 0)
                        *gone = http_dispatch(request) > 0;
                return r < 0 ? r : r > 0 || request->state != HTTP_READING;
        case HTTP_HANDLING:
                *events = EPOLLRDHUP;
                return 0;
        case HTTP_WRITING:
                *events = EPOLLOUT;
                r = http_flush(request);
                if (r <= 0)
                        return r;
                r = http_finish(request);
                return r < 0 ? r : 1;
        default:
                *events = EPOLLIN;
                return http_discard(request);
        }
}

static void http_drive(HttpRequest *request) {
        unsigned n_requests = 0;
        uint32_t events = 0;
        bool gone = false;
        int r = 1;

        request->driving = true;
        while (r > 0 && !gone) {
                if (request->state == HTTP_READING && n_requests++ >= REQUESTS_PER_TURN) {
                        events = EPOLLIN | EPOLLOUT; /* comes back at once, behind the others */
                        break;
                }
                r = http_step(request, &events, &gone);
        }
        if (gone)
                return;
        request->driving = false;
        if (r < 0)
                http_connection_free(request);
        else
                http_wait_for(request, events);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        HttpRequest *request = userdata;

        /* While a request waits for its answer nothing is read, so the end of the stream is all that can
         * come: the peer has closed, or shut its side down, which cannot be told apart and counts as
         * gone. */
        if ((events & (EPOLLHUP | EPOLLERR)) || (request->state == HTTP_HANDLING && (events & EPOLLRDHUP)))
                http_connection_free(request);
        else
                http_drive(request);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        HttpRequest *request = userdata;

        if (request->state == HTTP_READING && request->in.size > 0) {
                http_refuse(request, SC__ERROR_CODE__ERROR_REQUEST_TIMEOUT);
                http_drive(request);
        } else /* idle, or it does not take the response */
                http_connection_free(request);
        return 0;
}

int http_connection_new(WebServer *server, int fd, Peer *peer) {
        HttpRequest *request = new0(HttpRequest, 1);
        int r;

        if (!request) {
                peer_release(peer);
                safe_close(fd);
                return -ENOMEM;
        }
        request->peer = *peer;
        request->fd = fd;
        LIST_INSERT_HEAD(&server->requests, request, entry);
        r = sd_event_add_io(server->event, &request->io, fd, EPOLLIN, on_io, request);
        if (r >= 0)
                r = sd_event_add_time_relative(server->event, &request->timer, CLOCK_BOOTTIME,
                        server->limits.request_timeout_usec, 0, on_timer, request);
        if (r < 0)
                http_release(request);
        return r;
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
        *ret_size = request->head.content_length;
        return http_text(request, request->head.size);
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
