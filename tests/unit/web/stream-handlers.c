/* SPDX-License-Identifier: Apache-2.0 */
#include "stream-handlers.h"

#include <inttypes.h>
#include <stdio.h>

#include "fiber/fiber.h"
#include "util/string-util.h"
#include "util/time-util.h"
#include "web/http-internal.h"

#define PIECE (16U << 10)

struct Streams {
        Fixture *fixture;
        FiberPool *fibers;
        FiberQueue held;
        bool released;
};

typedef struct Stream {
        Streams *streams;
        HttpRequest *request;
        Fiber *fiber; /* NULL: has ended */
        char path[64];
        /* since the last note */
        uint64_t n;
        uint32_t sum;
        size_t memory;
        ssize_t result;
} Stream;

Streams *streams_new(sd_event *event, Fixture *fixture) {
        const FiberPoolConfig config = {.max_fibers = 64, .max_queued = 64, .max_queued_per_key = 64};
        Streams *streams = new0(Streams, 1);

        streams->fixture = fixture;
        assert_se(streams && fiber_pool_new(&streams->fibers, event, &config) >= 0);
        return streams;
}

void streams_free(Streams *streams) {
        FiberPoolStatistics statistics;

        fiber_pool_cancel_all(streams->fibers);
        fiber_pool_get_statistics(streams->fibers, &statistics);
        assert_se(statistics.n_running == 0); /* every handler has ended */
        fiber_pool_free(streams->fibers);
        free(streams);
}

uint32_t stream_sum(uint32_t sum, const void *data, size_t size) {
        const uint8_t *bytes = data;

        for (size_t i = 0; i < size; i += 256) /* a sample will do: what is lost or doubled moves the rest */
                sum = sum * 31 + bytes[i];
        return sum;
}

static void note_begin(Seen *seen, void *argument) {
        seen->n_streams++;
}

static void note_progress(Seen *seen, void *argument) {
        Stream *stream = argument;

        seen->streamed += stream->n;
        seen->stream_memory = MAX(seen->stream_memory, stream->memory);
        stream->n = 0;
}

static void note_end(Seen *seen, void *argument) {
        Stream *stream = argument;

        note_progress(seen, argument);
        seen->n_streams_ended++;
        seen->stream_sum = stream->sum;
        seen->stream_result = stream->result;
}

static void note(Stream *stream, void (*f)(Seen *seen, void *argument)) {
        fixture_note(stream->streams->fixture, f, stream);
}

static void measure(Stream *stream) {
        const HttpRequest *r = stream->request;

        stream->memory = MAX(stream->memory,
                r->in.allocated + r->body.allocated + r->out.allocated + r->tail_owned.allocated);
}

static int pause_upload(Stream *stream) {
        if (streq(stream->path, "/stream/slow"))
                return fiber_sleep(100 * USEC_PER_MSEC);
        if (streq(stream->path, "/stream/hold"))
                while (!stream->streams->released) {
                        int r = fiber_queue_wait(&stream->streams->held, UINT64_MAX);
                        if (r < 0)
                                return r;
                }
        return 0;
}

static void upload(Stream *stream) {
        uint64_t total = 0;
        char text[32];
        uint8_t piece[PIECE];
        ssize_t n;

        do {
                n = pause_upload(stream);
                if (n >= 0)
                        n = http_request_read(stream->request, piece, sizeof(piece));
                if (n > 0) {
                        stream->n += (uint64_t) n;
                        total += (uint64_t) n;
                        measure(stream);
                        note(stream, note_progress);
                }
        } while (n > 0);
        stream->result = n;
        if (n < 0)
                http_request_refuse(stream->request, (int) n);
        else
                http_respond(stream->request, 200, "text/plain", NULL, 0, text,
                        (size_t) snprintf(text, sizeof(text), "%" PRIu64, total));
}

static int download_pieces(Stream *stream, uint64_t size) {
        uint8_t piece[PIECE];

        for (uint64_t at = 0; at < size;) {
                size_t n = (size_t) MIN(size - at, (uint64_t) sizeof(piece));
                for (size_t i = 0; i < n; i++)
                        piece[i] = stream_byte(at + i);
                int r = http_response_write(stream->request, piece, n);
                if (r < 0)
                        return r;
                at += n;
                stream->n += n;
                stream->sum = stream_sum(stream->sum, piece, n);
                measure(stream);
                note(stream, note_progress);
        }
        return 0;
}

static void download(Stream *stream) {
        uint64_t size = strtoull(stream->path + strlen("/download/"), NULL, 10);
        bool chunked = strstr(stream->path, "/chunked"), give_up = strstr(stream->path, "/abort"),
             cut = strstr(stream->path, "/short") || give_up;

        stream->result = http_response_begin(stream->request, 200, "application/octet-stream", NULL, 0,
                chunked ? HTTP_SIZE_UNKNOWN : size);
        if (stream->result >= 0)
                stream->result = download_pieces(stream, size - cut);
        if (stream->result < 0 || give_up)
                http_request_abort(stream->request);
        else
                http_response_end(stream->request);
}

static void serve(void *userdata) {
        Stream *stream = userdata;

        if (startswith(stream->path, "/download/"))
                download(stream);
        else if (streq(stream->path, "/stream/refuse"))
                http_respond(stream->request, 403, "text/plain", NULL, 0, "no", 2);
        else
                upload(stream);
        stream->fiber = NULL;
        note(stream, note_end);
        free(stream);
}

bool streams_on_head(HttpRequest *request, uint64_t *max_body) {
        const char *path = http_request_path(request);

        if (!startswith(path, "/stream/"))
                return false;
        *max_body = streq(path, "/stream/small") ? 1000 : 1ULL << 40;
        return true;
}

bool streams_on_request(Streams *streams, HttpRequest *request) {
        const char *path = http_request_path(request);
        Stream *stream;

        if (!startswith(path, "/stream/") && !startswith(path, "/download/"))
                return false;
        stream = new0(Stream, 1);
        stream->streams = streams;
        stream->request = request;
        snprintf(stream->path, sizeof(stream->path), "%s", path);
        note(stream, note_begin);
        /* Known to on_abort while it waits; one that has ended waits for nothing. */
        http_request_set_userdata(request, stream);
        int r = fiber_start(
                streams->fibers, &(FiberStart){.main = serve, .userdata = stream}, &stream->fiber);
        assert_se(r >= 0);
        return true;
}

void streams_on_abort(Streams *streams, HttpRequest *request) {
        Stream *stream = http_request_get_userdata(request);

        if (stream)
                fiber_cancel(stream->fiber, -ECANCELED);
}

void streams_release(Fixture *fixture, void *argument) {
        Streams *streams = fixture_streams(fixture);

        streams->released = true;
        fiber_queue_wake(&streams->held);
}
