/* SPDX-License-Identifier: Apache-2.0 */
/* Reading from WebSockets. They have an epoll instance of their own, which sd-event watches as one descriptor: a
 * source of sd-event for each would cost 300 bytes. */
#include <sys/epoll.h>

#include "log/log.h"
#include "util/fd-util.h"
#include "web/websocket-internal.h"

/* Read at once, for all connections: a message that fits is handled without being copied. TLS gives at most 16 KiB at
 * a time. */
#define READ_SIZE (64U << 10)
/* Connections served in one turn of the loop. */
#define READS_PER_TURN 256
/* A connection that fails is closed although more is coming, when this much was dropped: closing over unread data
 * resets the connection, and the peer may not learn why. */
#define DROP_MAX (16U << 20)

/* --- messages --- */

void websocket_drop_partial(WebSocket *socket) {
        PartialMessage *partial = TAKE_PTR(socket->partial);

        if (!partial)
                return;
        budget_set(&websocket_server(socket)->budget, &partial->use, 0);
        buffer_done(&partial->buffer);
        free(partial);
}

/* Others need the room. */
static void on_evict(BudgetUse *use) {
        PartialMessage *partial = CONTAINER_OF(use, PartialMessage, use);

        websocket_fail(partial->socket, CLOSE_TRY_AGAIN_LATER, "overloaded");
}

static int append_to_partial(WebSocket *socket, const FrameEvent *event) {
        PartialMessage *partial = socket->partial;

        if (!partial) {
                partial = socket->partial = new0(PartialMessage, 1);
                if (!partial)
                        return -ENOMEM;
                partial->socket = socket;
                partial->use.evict = on_evict;
        }
        int r = buffer_append(&partial->buffer, event->data, event->size);
        if (r < 0 || socket->signed_in)
                return r;
        return budget_set(&websocket_server(socket)->budget, &partial->use,
                sizeof(*partial) + partial->buffer.allocated);
}

static void deliver(WebSocket *socket, const void *data, size_t size, bool binary) {
        WebServer *server = websocket_server(socket);

        server->handlers.on_message(socket, data, size, binary, server->userdata);
}

static void handle_data(WebSocket *socket, const FrameEvent *event) {
        if (event->last && !socket->partial)
                return deliver(socket, event->data, event->size, event->binary);
        int r = append_to_partial(socket, event);
        if (r == -ENOBUFS)
                return websocket_fail(socket, CLOSE_TRY_AGAIN_LATER, "overloaded");
        if (r < 0)
                return websocket_fail(socket, CLOSE_INTERNAL_ERROR, "out of memory");
        if (!event->last)
                return;
        _cleanup_buffer_ Buffer whole = TAKE_GENERIC(socket->partial->buffer, (Buffer){});
        websocket_drop_partial(socket);
        deliver(socket, whole.data, whole.size, event->binary);
}

/* Of several pings the latest is answered. Without memory none is, and the peer asks again. */
static void handle_ping(WebSocket *socket, const FrameEvent *event) {
        bytes_unref(socket->pong);
        socket->pong = bytes_new_copy(event->data, event->size);
        websocket_set_waiting(socket, true);
}

/* The peer closes: its code is the answer. What was queued for it is not sent any more. */
static void handle_close(WebSocket *socket, unsigned code) {
        socket->peer_closed = true;
        if (socket->closing) /* this is the answer to ours */
                return;
        websocket_clear_queue(socket);
        websocket_close(socket, code, NULL);
}

static void handle_event(WebSocket *socket, const FrameEvent *event) {
        switch (event->kind) {
        case FRAME_EVENT_DATA:
                if (!socket->closing)
                        handle_data(socket, event);
                break;
        case FRAME_EVENT_PING:
                if (!socket->closing)
                        handle_ping(socket, event);
                break;
        case FRAME_EVENT_CLOSE:
                handle_close(socket, event->code);
                break;
        case FRAME_EVENT_FAILED:
                websocket_fail(socket, event->code, event->reason);
                break;
        case FRAME_EVENT_NONE:
                break;
        }
}

static void handle_bytes(WebSocket *socket, uint8_t *data, size_t size) {
        const WebLimits *limits = &websocket_server(socket)->limits;
        FrameEvent event;
        size_t at = 0;

        socket->reader.max_message = (uint32_t) MIN(limits->max_message, (size_t) INT32_MAX);
        do {
                at += frame_read(&socket->reader, data + at, size - at, &event);
                handle_event(socket, &event);
        } while (event.kind != FRAME_EVENT_NONE && !socket->reader.ended);
        /* Behind its close frame a peer has nothing to send. If it does, the connection would be reset. */
        if (at < size)
                socket->failed = true;
}

/* --- reading --- */

int websocket_read(WebSocket *socket) {
        WebLoop *loop = websocket_server(socket)->loop;

        ssize_t n = websocket_read_bytes(socket, loop->read_buffer, READ_SIZE);
        if (n == -EAGAIN)
                return 0;
        if (n <= 0)
                return -ECONNRESET;
        if (!socket->reader.ended)
                handle_bytes(socket, loop->read_buffer, (size_t) n);
        else if ((socket->dropped += (uint32_t) n) > DROP_MAX)
                return -ECONNRESET;
        /* Its turn comes again: a peer that sends as fast as we read must not hold up the others. */
        if (websocket_has_pending(socket))
                websocket_set_waiting(socket, true);
        return 0;
}

static void on_socket(WebSocket *socket, uint32_t events) {
        /* While reading is paused an end in disorder comes all the same. */
        if (socket->paused ? events & (EPOLLHUP | EPOLLERR) : websocket_read(socket) < 0)
                return websocket_free(socket);
        if (socket->rest && websocket_write_queue(socket) < 0)
                return websocket_free(socket);
        (void) websocket_advance(socket);
}

static int on_sockets(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        struct epoll_event events[READS_PER_TURN];
        int n = epoll_wait(fd, events, ELEMENTSOF(events), 0);

        for (int i = 0; i < n; i++)
                on_socket(events[i].data.ptr, events[i].events);
        return 0;
}

int websocket_receive_init(WebLoop *loop) {
        if (loop->sockets_fd >= 0)
                return 0;
        _cleanup_close_ int fd = epoll_create1(EPOLL_CLOEXEC);
        if (fd < 0)
                return -errno;
        loop->read_buffer = malloc(READ_SIZE);
        if (!loop->read_buffer)
                return -ENOMEM;
        int r = sd_event_add_io(loop->event, &loop->sockets_source, fd, EPOLLIN, on_sockets, loop);
        if (r < 0)
                return r;
        loop->sockets_fd = TAKE_FD(fd);
        return 0;
}

void websocket_receive_done(WebLoop *loop) {
        sd_event_source_disable_unref(loop->sockets_source);
        loop->sockets_fd = safe_close(loop->sockets_fd);
        loop->read_buffer = mfree(loop->read_buffer);
}
