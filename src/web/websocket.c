/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a WebSocket (RFC 6455) once the handshake was answered: until the closing handshake is done, or
 * fails. */
#include "log/log.h"
#include "web/websocket-internal.h"

/* --- the end --- */

void websocket_free(WebSocket *socket) {
        WebServer *server = websocket_server(socket);

        socket->closing = true;
        websocket_set_waiting(socket, false);
        websocket_clear_queue(socket);
        websocket_end_deadline(socket);
        websocket_drop_partial(socket);
        frame_reader_done(&socket->reader);
        if (socket->open)
                server->handlers.on_close(socket, socket->slow, server->userdata);
        LIST_REMOVE(socket, entry);
        websocket_unwatch(socket);
        websocket_wire_free(socket);
        peer_release(&socket->peer);
        free(socket->close_reason);
        free(socket);
}

void websocket_break(WebSocket *socket) {
        socket->closing = socket->broken = true;
        websocket_clear_queue(socket);
        websocket_set_waiting(socket, true);
}

void websocket_abandon(WebSocket *socket) {
        websocket_free(socket);
}

void websocket_close(WebSocket *socket, unsigned code, const char *reason) {
        if (socket->closing)
                return;
        websocket_pause_reading(socket, false); /* the peer's answer is to be read */
        websocket_drop_partial(socket);
        socket->closing = true;
        socket->close_code = (uint16_t) code;
        socket->close_reason = reason ? strdup(reason) : NULL;
        websocket_begin_closing(socket);
        websocket_set_waiting(socket, true);
}

void websocket_fail(WebSocket *socket, unsigned code, const char *reason) {
        log_debug("A WebSocket of %s fails: %u %s", socket->peer.text, code, reason);
        websocket_clear_queue(socket);
        socket->failed = socket->reader.ended = true;
        websocket_set_waiting(socket, true);
        websocket_close(socket, code, reason);
}

bool websocket_advance(WebSocket *socket) {
        if (socket->closing && !socket->close_sent && websocket_is_drained(socket)) {
                if (websocket_write_close(socket) < 0)
                        socket->broken = true;
                socket->close_sent = true;
                websocket_begin_closing(socket);
        }
        if (socket->close_sent && !websocket_is_blocked(socket)) {
                /* Whoever has nothing more to send can be let go of. Otherwise that would reset the connection, and
                 * the close frame would be lost: say that it is over, and wait for the peer's end. */
                if (socket->peer_closed && !socket->failed)
                        socket->broken = true;
                else if (socket->failed && websocket_shutdown(socket) < 0)
                        socket->broken = true;
        }
        if (!socket->broken && websocket_watch(socket) >= 0)
                return true;
        websocket_free(socket);
        return false;
}

/* --- what handlers ask --- */

void websocket_pause_reading(WebSocket *socket, bool paused) {
        if (socket->closing || socket->paused == paused)
                return;
        socket->paused = paused;
        websocket_set_waiting(socket, true); /* websocket_advance() does it */
}

void websocket_set_signed_in(WebSocket *socket) {
        socket->signed_in = true;
        if (socket->partial)
                budget_set(&websocket_server(socket)->budget, &socket->partial->use, 0);
}

const char *websocket_address(const WebSocket *socket) {
        return socket->peer.text;
}

void websocket_set_userdata(WebSocket *socket, void *userdata) {
        socket->userdata = userdata;
}

void *websocket_get_userdata(const WebSocket *socket) {
        return socket->userdata;
}

/* --- the beginning --- */

void websocket_open(WebSocket *socket) {
        WebServer *server = websocket_server(socket);

        if (websocket_watch(socket) < 0)
                return websocket_break(socket);
        socket->open = true;
        server->handlers.on_open(socket, server->userdata);
}

void websocket_adopt(WebServer *server, Transport *transport, Peer *peer, const char *key, bool protocol) {
        WebSocket *socket = new0(WebSocket, 1);

        if (!socket) {
                transport_free(transport);
                peer_release(peer);
                return;
        }
        socket->peer = *peer;
        socket->protocol = protocol;
        STAILQ_INIT(&socket->queue);
        LIST_INSERT_HEAD(&server->sockets, socket, entry);
        if (!transport_is_tls(transport)) {
                int fd = transport_take_fd(transport);
                transport_free(transport);
                lws_wire_adopt(socket, fd, key);
        } else if (websocket_wire_open(socket, transport, key) < 0)
                websocket_free(socket);
        else
                websocket_open(socket);
}
