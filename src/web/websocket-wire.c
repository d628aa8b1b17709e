/* SPDX-License-Identifier: Apache-2.0 */
/* How bytes go in and out: libwebsockets has the socket of a plain connection (websocket-lws.c); it cannot adopt one
 * that is under TLS already, so that is written to directly. Reading is the same either way. */
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "web/websocket-internal.h"

int websocket_fd(const WebSocket *socket) {
        return socket->wsi ? lws_wire_fd(socket->wsi) : transport_fd(socket->transport);
}

/* --- reading --- */

ssize_t websocket_read_bytes(WebSocket *socket, void *buffer, size_t size) {
        ssize_t n;

        if (socket->transport)
                return transport_read(socket->transport, buffer, size);
        do
                n = recv(lws_wire_fd(socket->wsi), buffer, size, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

bool websocket_has_pending(const WebSocket *socket) {
        return socket->transport && !socket->paused && transport_has_pending(socket->transport);
}

static uint32_t wanted_events(const WebSocket *socket) {
        if (socket->transport)
                return transport_events(socket->transport, !socket->paused, socket->rest);
        return socket->paused ? 0 : EPOLLIN; /* libwebsockets itself waits until it can write */
}

int websocket_watch(WebSocket *socket) {
        struct epoll_event event = {.events = wanted_events(socket), .data.ptr = socket};

        if (socket->watched && event.events == socket->events)
                return 0;
        if (epoll_ctl(websocket_server(socket)->loop->sockets_fd,
                    socket->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, websocket_fd(socket), &event) < 0)
                return -errno;
        socket->events = event.events;
        socket->watched = true;
        return 0;
}

/* Closing does not do it while libwebsockets keeps the descriptor. */
void websocket_unwatch(WebSocket *socket) {
        if (socket->watched)
                epoll_ctl(websocket_server(socket)->loop->sockets_fd, EPOLL_CTL_DEL, websocket_fd(socket),
                        NULL);
        socket->watched = false;
}

/* --- writing --- */

static void drop_rest(WebSocket *socket) {
        if (!socket->rest)
                return;
        buffer_done(socket->rest);
        socket->rest = mfree(socket->rest);
}

static int keep_rest(WebSocket *socket, const uint8_t *data, size_t size) {
        socket->rest = new0(Buffer, 1);
        return socket->rest ? buffer_append(socket->rest, data, size) : -ENOMEM;
}

static int transport_wire_write(WebSocket *socket, const uint8_t *data, size_t size) {
        ssize_t n = transport_write(socket->transport, data, size);

        if (n < 0 && n != -EAGAIN)
                return (int) n;
        n = MAX(n, 0);
        return (size_t) n == size ? 0 : keep_rest(socket, data + n, size - (size_t) n);
}

int websocket_write_frame(WebSocket *socket, FrameOpcode opcode, uint8_t *payload, size_t size) {
        uint8_t head[FRAME_HEAD_MAX];

        if (socket->wsi)
                return lws_wire_write(socket->wsi, opcode, payload, size);
        size_t n = frame_write_head(head, opcode, size);
        memcpy(payload - n, head, n);
        return transport_wire_write(socket, payload - n, n + size);
}

int websocket_write_rest(WebSocket *socket) {
        if (!socket->rest)
                return 0;
        ssize_t n = transport_write(socket->transport, socket->rest->data, socket->rest->size);
        if (n < 0)
                return n == -EAGAIN ? 0 : (int) n;
        if ((size_t) n == socket->rest->size)
                drop_rest(socket);
        else
                buffer_consume(socket->rest, (size_t) n);
        return 0;
}

bool websocket_is_blocked(const WebSocket *socket) {
        return socket->wsi ? lws_wire_is_blocked(socket->wsi) : !!socket->rest;
}

int websocket_shutdown(WebSocket *socket) {
        if (socket->transport)
                return transport_shutdown(socket->transport);
        return shutdown(lws_wire_fd(socket->wsi), SHUT_WR) < 0 ? -errno : 0;
}

/* --- life --- */

int websocket_wire_open(WebSocket *socket, Transport *transport, const char *key) {
        const char *name = websocket_server(socket)->handlers.ws_protocol;
        char accept[32], head[512];

        socket->transport = transport;
        websocket_accept_key(key, accept);
        int n = snprintf(head, sizeof(head),
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
                accept, socket->protocol ? "Sec-WebSocket-Protocol: " : "", socket->protocol ? name : "",
                socket->protocol ? "\r\n" : "");
        return transport_wire_write(socket, (uint8_t *) head, (size_t) n);
}

void websocket_wire_free(WebSocket *socket) {
        drop_rest(socket);
        if (socket->wsi)
                lws_wire_free(TAKE_PTR(socket->wsi));
        socket->transport = transport_free(socket->transport);
}
