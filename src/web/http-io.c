/* SPDX-License-Identifier: Apache-2.0 */
/* Between a connection of HTTP and its transport. */
#include <sys/epoll.h>

#include "web/http-internal.h"

ssize_t http_io_read(HttpRequest *request, void *buffer, size_t size) {
        return transport_read(request->transport, buffer, size);
}

void http_wait(HttpRequest *request) {
        bool under_way = request->state == HTTP_HANDLING || request->state == HTTP_STREAMING;
        bool reading = request->state == HTTP_READING || request->state == HTTP_LINGERING ||
                       (request->state == HTTP_HANDLING && request->body_wanted);
        bool writing = request->state == HTTP_WRITING ||
                       (request->state == HTTP_STREAMING && http_unsent(request) > 0);
        uint32_t events = transport_events(request->transport, reading, writing);

        if (under_way && !writing)
                events |= EPOLLRDHUP;
        if (reading && transport_has_pending(request->transport)) /* no event tells of that */
                events |= EPOLLOUT;
        sd_event_source_set_io_events(request->io, events);
}

static void count_sent(HttpRequest *request, size_t n) {
        size_t of_out = MIN(n, request->out.size - request->written);

        request->written += of_out;
        request->tail_written += n - of_out;
        request->progress += n;
        if (request->progress - request->progress_mark >= HTTP_PROGRESS_SIZE) {
                request->progress_mark = request->progress;
                http_set_timer(request, http_server(request)->limits.request_timeout_usec);
        }
}

static void add_part(struct iovec iov[static 2], size_t *n, const uint8_t *data, size_t size, size_t sent) {
        if (size > sent)
                iov[(*n)++] = (struct iovec){(uint8_t *) data + sent, size - sent};
}

int http_flush(HttpRequest *request) {
        while (http_unsent(request) > 0) {
                struct iovec iov[2];
                size_t n_iov = 0;

                add_part(iov, &n_iov, request->out.data, request->out.size, request->written);
                add_part(iov, &n_iov, request->tail, request->tail_size, request->tail_written);
                ssize_t n = transport_writev(request->transport, iov, n_iov);
                if (n < 0)
                        return n == -EAGAIN ? 0 : (int) n;
                count_sent(request, (size_t) n);
        }
        request->out.size = request->written = 0;
        return 1;
}

bool http_has_more(const HttpRequest *request) {
        return request->in.size > request->head.size || transport_has_pending(request->transport);
}

/* If that cannot be sent at once it is left out: then the peer does not read what it was sent either. */
void http_shut(HttpRequest *request) {
        (void) transport_shutdown(request->transport);
}
