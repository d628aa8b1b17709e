/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies in pieces, for handlers on fibers. */
#include <stdio.h>

#include "util/string-util.h"
#include "util/time-util.h"
#include "web/http-internal.h"

/* --- of requests --- */

/* Bytes that are here; 0: none. */
static size_t take_body(HttpRequest *request, void *data, size_t size) {
        size_t n = MIN(size, request->body.size - request->body_taken);

        if (n == 0)
                return 0;
        memcpy(data, request->body.data + request->body_taken, n);
        request->body_taken += n;
        if (request->body_taken == request->body.size)
                request->body.size = request->body_taken = 0;
        return n;
}

/* Until the loop has read some. The peer has the request time-out for each 64 KiB, of which only that counts
 * which the handler waits. */
static int wait_for_body(HttpRequest *request) {
        uint64_t timeout = http_server(request)->limits.request_timeout_usec, begin = boottime_usec();

        if (request->progress - request->progress_mark >= HTTP_PROGRESS_SIZE) {
                request->progress_mark = request->progress;
                request->waited_usec = 0;
        }
        request->body_wanted = true;
        http_set_timer(request, timeout > request->waited_usec ? timeout - request->waited_usec : 1);
        if (!request->driving)
                http_wait(request);

        int r = fiber_queue_wait(&request->waiters, UINT64_MAX);
        request->body_wanted = false;
        if (request->state == HTTP_GONE)
                return -ECONNRESET;
        request->waited_usec += boottime_usec() - begin;
        http_set_timer(request, 0);
        http_wait(request);
        return r;
}

ssize_t http_request_read(HttpRequest *request, void *data, size_t size) {
        for (;;) {
                size_t n;
                int r = request->state == HTTP_GONE ? -ECONNRESET : fiber_check_cancelled();
                if (r < 0)
                        return r;
                assert_se(request->held && request->state == HTTP_HANDLING);
                n = take_body(request, data, size);
                if (n > 0 || request->body_complete)
                        return (ssize_t) n;
                if (request->body_error < 0)
                        return request->body_error;
                r = http_body_take(request); /* what came with the head */
                if (r < 0)
                        return request->body_error = r;
                if (request->body.size > 0 || request->body_complete)
                        continue;
                r = wait_for_body(request);
                if (r < 0)
                        return r;
        }
}

/* --- of responses --- */

int http_response_begin(HttpRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, uint64_t size) {
        if (!request->held) {
                request->held = true;
                request->n_refs++;
        }
        if (request->state == HTTP_GONE)
                return -ECONNRESET;
        http_body_done(request);
        http_response_head(request, status, content_type, headers, n_headers, size);
        if (request->out.error < 0)
                return -ENOMEM;
        request->response_left = size;
        request->state = HTTP_STREAMING;
        return 0;
}

/* Appends a piece with its framing. */
static int append_piece(HttpRequest *request, const void *data, size_t size) {
        char line[32];

        if (request->response_chunked) {
                snprintf(line, sizeof(line), "%zx\r\n", size);
                (void) buffer_append_string(&request->out, line);
        }
        (void) buffer_append(&request->out, data, size);
        if (request->response_chunked)
                (void) buffer_append_string(&request->out, "\r\n");
        return request->out.error;
}

/* The peer has the request time-out for each 64 KiB, as long as there is something for it to read. */
static int send_pieces(HttpRequest *request) {
        int r = http_flush(request);

        if (r < 0)
                return -ECONNRESET;
        if (r > 0)
                http_set_timer(request, 0);
        else if (sd_event_source_get_enabled(request->timer, NULL) == 0) {
                request->progress_mark = request->progress;
                http_set_timer(request, http_server(request)->limits.request_timeout_usec);
        }
        if (!request->driving)
                http_wait(request);
        return 0;
}

/* Drops what was sent of `out`, so that it stays as small as what waits. */
static void forget_sent(HttpRequest *request) {
        buffer_consume(&request->out, request->written);
        request->written = 0;
}

static int wait_for_room(HttpRequest *request) {
        while (http_unsent(request) > HTTP_STREAM_WINDOW) {
                int r = fiber_queue_wait(&request->waiters, UINT64_MAX);
                if (request->state == HTTP_GONE)
                        return -ECONNRESET;
                if (r < 0)
                        return r;
        }
        return 0;
}

int http_response_write(HttpRequest *request, const void *data, size_t size) {
        const uint8_t *from = data;

        while (size > 0) {
                size_t n = MIN(size, (size_t) HTTP_READ_SIZE);
                int r = request->state == HTTP_GONE ? -ECONNRESET : fiber_check_cancelled();
                if (r < 0)
                        return r;
                assert_se(request->held && request->state == HTTP_STREAMING);
                if (request->response_left != HTTP_SIZE_UNKNOWN) {
                        assert_se(n <= request->response_left);
                        request->response_left -= n;
                }
                if (!request->response_without_body) {
                        forget_sent(request);
                        r = append_piece(request, from, n);
                        if (r >= 0)
                                r = send_pieces(request);
                        if (r >= 0)
                                r = wait_for_room(request);
                        if (r < 0)
                                return r;
                }
                from += n;
                size -= n;
        }
        return 0;
}

void http_response_end(HttpRequest *request) {
        bool whole = request->response_without_body || request->response_left == 0 ||
                     request->response_left == HTTP_SIZE_UNKNOWN;

        if (request->state == HTTP_GONE || !whole) {
                http_request_abort(request);
                return;
        }
        assert_se(request->held && request->state == HTTP_STREAMING);
        if (request->response_chunked && !request->response_without_body)
                (void) buffer_append_string(&request->out, "0\r\n\r\n");
        if (request->out.error < 0) {
                http_request_abort(request);
                return;
        }
        request->held = false;
        http_unref(request);
        http_response_complete(request);
}

/* The connection is closed from the loop. */
void http_request_abort(HttpRequest *request) {
        bool connected = request->state != HTTP_GONE;

        assert_se(request->held || !connected);
        request->held = false;
        http_unref(request);
        if (!connected)
                return;
        buffer_done(&request->out);
        request->written = 0;
        request->close = true;
        request->linger = false;
        request->state = HTTP_WRITING;
        http_go_on(request);
}
