/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request: by Content-Length or in chunks, whole or as a stream. */
#include <sys/socket.h>

#include "web/http-internal.h"

int http_body_begin(HttpRequest *request, uint64_t max) {
        request->body_max = max;
        request->body_complete = !request->head.chunked && request->head.content_length == 0;
        return request->head.content_length > max ? -EMSGSIZE : 0;
}

void http_body_done(HttpRequest *request) {
        buffer_done(&request->body);
        request->body_taken = 0;
}

/* How much more of the body may be in memory. */
static size_t body_room(const HttpRequest *request) {
        if (request->body_streamed)
                return HTTP_STREAM_WINDOW - MIN(request->body.size, (size_t) HTTP_STREAM_WINDOW);
        return (size_t) (request->body_max - request->body_received);
}

static void note_received(HttpRequest *request, size_t n) {
        request->body_received += n;
        request->progress += n;
}

static int decode_chunks(HttpRequest *request, const char *data, size_t size, size_t *ret_taken) {
        size_t before = request->body.size, room = body_room(request);
        ssize_t n = http_chunked_decode(&request->chunked, data, size, room, &request->body);

        if (n < 0)
                return (int) n;
        note_received(request, request->body.size - before);
        request->body_complete = request->chunked.state == HTTP_CHUNK_DONE;
        *ret_taken = (size_t) n;
        /* Of a whole body the room ends where the limit is. */
        if (request->chunked.state == HTTP_CHUNK_DATA &&
                request->body_received + request->chunked.left > request->body_max)
                return -EMSGSIZE;
        return 0;
}

/* Bytes behind the head: as many as may be taken now. */
static int take(HttpRequest *request, const char *data, size_t size, size_t *ret_taken) {
        if (request->head.chunked)
                return decode_chunks(request, data, size, ret_taken);

        uint64_t missing = request->head.content_length - request->body_received;
        size_t n = (size_t) MIN((uint64_t) MIN(size, body_room(request)), missing);
        int r = buffer_append(&request->body, data, n);
        if (r < 0)
                return r;
        note_received(request, n);
        request->body_complete = n == missing;
        *ret_taken = n;
        return 0;
}

int http_body_take(HttpRequest *request) {
        Buffer *in = &request->in;
        size_t begin = request->head.size, n = 0;

        if (in->size == begin)
                return 0;
        int r = take(request, (const char *) in->data + begin, in->size - begin, &n);
        if (r < 0)
                return r;
        in->size -= n;
        memmove(in->data + begin, in->data + begin + n, in->size - begin);
        return 0;
}

/* What the decoder did not take, such as the next request, stays in `in`. */
static int take_or_keep(HttpRequest *request, const char *data, size_t size) {
        size_t n = 0;
        int r = take(request, data, size, &n);

        return r < 0 ? r : buffer_append(&request->in, data + n, size - n);
}

int http_body_read(HttpRequest *request) {
        char chunk[HTTP_READ_SIZE];

        int r = http_body_take(request);
        while (r >= 0 && !request->body_complete && (body_room(request) > 0 || !request->body_streamed)) {
                /* Not into the next request, where that can be told. */
                uint64_t missing = request->head.chunked
                                           ? sizeof(chunk)
                                           : request->head.content_length - request->body_received;
                ssize_t n = http_io_read(request, chunk, (size_t) MIN(missing, (uint64_t) sizeof(chunk)));
                if (n <= 0)
                        return n == 0 ? -ECONNRESET : n == -EAGAIN ? 0 : (int) n;
                r = take_or_keep(request, chunk, (size_t) n);
                if (r >= 0)
                        r = http_count_pending(request);
        }
        return r < 0 ? r : 1;
}
