/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "log/log.h"
#include "util/string-util.h"
#include "web/http-internal.h"

static const char *status_text(unsigned status) {
        static const struct {
                unsigned status;
                const char *text;
        } texts[] = {{200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"},
                {304, "Not Modified"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"},
                {404, "Not Found"}, {405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"},
                {411, "Length Required"}, {413, "Content Too Large"}, {414, "URI Too Long"},
                {415, "Unsupported Media Type"}, {417, "Expectation Failed"}, {426, "Upgrade Required"},
                {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"},
                {500, "Internal Server Error"}, {501, "Not Implemented"}, {503, "Service Unavailable"},
                {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"},
                {507, "Insufficient Storage"}};

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
                (void) buffer_append(out, line, MIN((size_t) n, sizeof(line) - 1));
}

/* Statuses whose responses never have a body. */
static bool status_has_body(unsigned status) {
        return status >= 200 && status != 204 && status != 304;
}

static void append_head(Buffer *out, unsigned status, const char *content_type, const HttpHeader *headers,
        size_t n_headers, const char *framing, bool close) {
        time_t now = time(NULL);
        char date[64];
        struct tm tm;

        strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
        append_format(out, "HTTP/1.1 %u %s\r\nDate: %s\r\n", status, status_text(status), date);
        if (content_type)
                append_format(out, "Content-Type: %s\r\n", content_type);
        (void) buffer_append_string(out, framing);
        FOREACH_ARRAY(header, headers, n_headers)
                if (header_is_safe(header)) {
                        (void) buffer_append_string(out, header->name);
                        (void) buffer_append_string(out, ": ");
                        (void) buffer_append_string(out, header->value);
                        (void) buffer_append_string(out, "\r\n");
                }
        if (close)
                (void) buffer_append_string(out, "Connection: close\r\n");
        (void) buffer_append_string(out, "\r\n");
}

static void format_length(char out[static 64], uint64_t size) {
        snprintf(out, 64, "Content-Length: %" PRIu64 "\r\n", size);
}

void http_response_head(HttpRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, uint64_t size) {
        char framing[64] = "";

        assert_se(request->state == HTTP_HANDLING);
        request->close |= !request->head.keep_alive || http_server(request)->draining;
        /* What was not read of the request would be taken for the next one. */
        if (!request->body_complete)
                request->close = request->linger = true;
        request->response_chunked = size == HTTP_SIZE_UNKNOWN && request->head.http_1_1;
        request->response_without_body |= !status_has_body(status);
        if (size != HTTP_SIZE_UNKNOWN) {
                /* A 304 says nothing of the body that it stands for. */
                if (status_has_body(status))
                        format_length(framing, size);
        } else if (request->response_chunked)
                strcpy(framing, "Transfer-Encoding: chunked\r\n");
        else /* for HTTP/1.0 the end of the connection is the end of the body */
                request->close = true;
        append_head(&request->out, status, content_type, headers, n_headers, framing, request->close);
}

void http_response_complete(HttpRequest *request) {
        if (request->out.error < 0) { /* out of memory: nothing sensible can be sent */
                buffer_done(&request->out);
                request->tail_size = 0;
                request->close = true;
        }
        http_body_done(request);
        request->state = HTTP_WRITING;
        request->progress_mark = request->progress;
        http_set_timer(request, http_server(request)->limits.request_timeout_usec);
        http_go_on(request);
}

/* True if the connection has ended: then the handler lets go of the request, and nothing is sent. */
static bool respond_to_nobody(HttpRequest *request) {
        if (request->state != HTTP_GONE)
                return false;
        http_unref(request);
        return true;
}

/* The handler's part is over. */
static void let_go(HttpRequest *request) {
        if (!request->held)
                return;
        request->held = false;
        http_unref(request);
}

void http_respond(HttpRequest *request, unsigned status, const char *content_type, const HttpHeader *headers,
        size_t n_headers, const void *body, size_t size) {
        if (respond_to_nobody(request))
                return;
        http_response_head(request, status, content_type, headers, n_headers, size);
        if (!request->response_without_body)
                (void) buffer_append(&request->out, body, size);
        let_go(request);
        http_response_complete(request);
}

void http_respond_static(HttpRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, const void *body, size_t size) {
        if (respond_to_nobody(request))
                return;
        http_response_head(request, status, content_type, headers, n_headers, size);
        if (!request->response_without_body) {
                request->tail = body;
                request->tail_size = size;
        }
        let_go(request);
        http_response_complete(request);
}

void http_respond_buffer(HttpRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, Buffer *body) {
        _cleanup_buffer_ Buffer taken = TAKE_GENERIC(*body, (Buffer){});

        if (respond_to_nobody(request))
                return;
        request->tail_owned = TAKE_GENERIC(taken, (Buffer){});
        http_respond_static(request, status, content_type, headers, n_headers, request->tail_owned.data,
                request->tail_owned.size);
}

/* --- refusals --- */

static void refusal_body(WebServer *server, Sc__ErrorCode code, Buffer *body) {
        if (server->handlers.on_refused)
                server->handlers.on_refused(code, body, server->userdata);
}

void http_refuse_with(HttpRequest *request, Sc__ErrorCode code, unsigned status, const HttpHeader *headers,
        size_t n_headers) {
        _cleanup_buffer_ Buffer body = {};

        refusal_body(http_server(request), code, &body);
        log_peer((.error = schema_error(code)->name), LOG_DEBUG, "Refused a request of %s",
                request->peer.text);
        request->close = request->linger = true;
        request->state = HTTP_HANDLING;
        http_respond(request, status, "application/problem+json", headers, n_headers, body.data, body.size);
}

void http_refuse(HttpRequest *request, Sc__ErrorCode code) {
        const HttpHeader retry = {"Retry-After", "1"};
        unsigned status = schema_error(code)->http;

        http_refuse_with(request, code, status, &retry, status == 503 ? 1 : 0);
}

void http_refuse_fd(WebServer *server, int fd, Sc__ErrorCode code) {
        _cleanup_buffer_ Buffer body = {}, out = {};
        char dropped[4096], framing[64];

        refusal_body(server, code, &body);
        format_length(framing, body.size);
        append_head(&out, schema_error(code)->http, "application/problem+json", NULL, 0, framing, true);
        (void) buffer_append(&out, body.data, body.size);
        if (out.error >= 0)
                (void) !send(fd, out.data, out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        shutdown(fd, SHUT_WR);
        while (recv(fd, dropped, sizeof(dropped), MSG_DONTWAIT) == (ssize_t) sizeof(dropped))
                ;
}
