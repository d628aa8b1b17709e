/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket over libwebsockets: framing, ping and the closing handshake are its part, messages and their
 * limits are ours.
 *
 * libwebsockets gets each connection with a head that is written here, not by the peer. Its own pings are
 * off: every one keeps a place in a sorted list that is searched linearly; TCP keep-alive and the protocol
 * above find dead peers. */
#include <stdio.h>

#include "log/log.h"
#include "util/string-util.h"
#include "web/websocket-internal.h"

/* Bytes libwebsockets reads at once for one connection; it keeps a buffer of this size for each, so it is
 * part of the memory of an idle one. At least 125, for control frames. */
#define READ_SIZE 512U
/* Bytes libwebsockets writes at once; by default no more than READ_SIZE. What is left of a frame it
 * copies. */
#define WRITE_SIZE (64U << 10)
/* How long a peer may take to read the rest of the queue when the connection is to be closed. */
#define CLOSE_TIMEOUT_SEC 5
/* More of a refused message than this is not waited for. */
#define DROP_MAX (16U << 20)

/* Calls on_close and lets go of the connection; libwebsockets frees the memory later. */
static void websocket_finish(WebSocket *socket) {
        WebServer *server = websocket_server(socket);

        if (!server)
                return;
        socket->closing = true;
        websocket_end_sending(socket);
        buffer_done(&socket->message);
        if (socket->open) {
                socket->open = false;
                server->handlers.on_close(socket, socket->slow, server->userdata);
        }
        LIST_REMOVE(socket, entry);
        peer_release(&socket->peer);
        socket->close_reason = mfree(socket->close_reason);
}

/* Closes without a close frame, from the loop and never from inside the call. libwebsockets checks its
 * timers only when something else happens, which lws_cancel_service() causes. */
void websocket_close_by_timer(WebSocket *socket, int sec) {
        lws_set_timeout(socket->wsi, PENDING_TIMEOUT_USER_REASON_BASE, sec);
        lws_cancel_service(socket->peer.server->loop->lws);
}

void websocket_abandon(WebSocket *socket) {
        websocket_close_by_timer(socket, LWS_TO_KILL_ASYNC);
        websocket_finish(socket);
}

/* --- from the peer --- */

static bool websocket_at_end_of_message(const WebSocket *socket) {
        return lws_is_final_fragment(socket->wsi) && lws_remaining_packet_payload(socket->wsi) == 0;
}

/* The rest of the message is read and dropped before the connection is closed, as long as that takes no
 * longer than a close may: closing over unread data resets the connection, and the peer would not learn
 * why. */
static int websocket_refuse(WebSocket *socket, unsigned code, const char *reason) {
        websocket_clear_queue(socket);
        buffer_done(&socket->message);
        socket->dropping = !websocket_at_end_of_message(socket) &&
                           lws_remaining_packet_payload(socket->wsi) <= DROP_MAX;
        websocket_close(socket, code, reason);
        return 0;
}

static int websocket_deliver(WebSocket *socket, const char *data, size_t size, bool binary) {
        WebServer *server = websocket_server(socket);

        /* libwebsockets checks too, as text arrives, but misses a character that is cut off before an empty
         * last fragment. */
        if (!binary && !utf8_is_valid(data, size))
                return websocket_refuse(socket, 1007, "text is not UTF-8");
        server->handlers.on_message(socket, data, size, binary, server->userdata);
        return 0;
}

static int websocket_received(WebSocket *socket, const char *data, size_t size) {
        size_t announced = size + lws_remaining_packet_payload(socket->wsi), total;
        bool last = lws_is_final_fragment(socket->wsi), binary = lws_frame_is_binary(socket->wsi);
        _cleanup_buffer_ Buffer whole = {};

        if (socket->dropping && websocket_at_end_of_message(socket)) {
                socket->dropping = false;
                lws_callback_on_writable(socket->wsi);
        }
        if (socket->closing)
                return 0;
        if (__builtin_add_overflow(socket->message.size, announced, &total) ||
                total > websocket_server(socket)->limits.max_message)
                return websocket_refuse(socket, 1009, "message too large");
        if (last && socket->message.size == 0)
                return websocket_deliver(socket, strempty(data), size, binary);

        if (buffer_append(&socket->message, data, size) < 0)
                return websocket_refuse(socket, 1011, "out of memory");
        if (!last)
                return 0;
        whole = TAKE_GENERIC(socket->message, (Buffer){});
        return websocket_deliver(socket, (const char *) whole.data, whole.size, binary);
}

/* --- closing --- */

/* Begins libwebsockets' closing handshake. Not by answering -1 from the callback: Debian's build is a debug
 * build, which then closes twice to see whether it can, and so ends the connection before the close frame is
 * out. */
static void websocket_send_close(WebSocket *socket) {
        const char *reason = strempty(socket->close_reason);

        lws_close_reason(socket->wsi, socket->close_code, (unsigned char *) reason, strlen(reason));
        lws_set_timeout(socket->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
}

/* The socket takes data again, or is to be closed. */
static int websocket_writable(WebSocket *socket) {
        if (websocket_write_queue(socket) < 0)
                return -1;
        if (!websocket_queue_is_empty(socket) || socket->close_code == 0 || socket->dropping)
                return 0;
        if (lws_partial_buffered(socket->wsi)) /* the rest of the last frame first */
                lws_callback_on_writable(socket->wsi);
        else
                websocket_send_close(socket);
        return 0;
}

void websocket_close(WebSocket *socket, unsigned code, const char *reason) {
        if (!socket->open || socket->closing)
                return;
        websocket_pause_reading(socket, false); /* the peer's answer is to be read */
        socket->closing = true;
        socket->close_code = (uint16_t) code;
        socket->close_reason = reason ? strndup(reason, 123) : NULL;
        lws_callback_on_writable(socket->wsi);
        websocket_close_by_timer(socket, CLOSE_TIMEOUT_SEC);
}

void websocket_pause_reading(WebSocket *socket, bool paused) {
        if (!socket->open || socket->closing || socket->paused == paused)
                return;
        socket->paused = paused;
        lws_rx_flow_control(socket->wsi, !paused);
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

/* Adds to the answer of the handshake that the subprotocol is accepted. */
static int websocket_add_headers(WebSocket *socket, struct lws_process_html_args *args) {
        const char *protocol = websocket_server(socket)->handlers.ws_protocol;
        unsigned char *p = (unsigned char *) args->p;

        if (!socket->protocol)
                return 0;
        if (lws_add_http_header_by_name(socket->wsi, (const unsigned char *) "sec-websocket-protocol:",
                    (const unsigned char *) protocol, (int) strlen(protocol), &p, p + args->max_len) != 0)
                return -1;
        args->p = (char *) p;
        return 0;
}

/* --- libwebsockets --- */

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size) {
        WebLoop *loop = lws_context_user(lws_get_context(wsi));
        WebSocket *socket = lws_get_opaque_user_data(wsi);

        web_loop_refresh_time(loop);
        if (reason == LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED) {
                socket = TAKE_PTR(loop->adopting);
                lws_set_opaque_user_data(wsi, socket);
                if (socket)
                        socket->wsi = wsi;
                return socket ? 0 : -1;
        }
        if (!socket)
                return 0;
        if (reason == LWS_CALLBACK_WSI_DESTROY) { /* always the last one */
                websocket_finish(socket);
                free(socket);
                return 0;
        }
        if (!socket->peer.server)
                return 0;

        switch (reason) {
        case LWS_CALLBACK_ADD_HEADERS:
                return websocket_add_headers(socket, in);
        case LWS_CALLBACK_ESTABLISHED:
                socket->open = true;
                socket->peer.server->handlers.on_open(socket, socket->peer.server->userdata);
                return 0;
        case LWS_CALLBACK_RECEIVE:
                return websocket_received(socket, in, size);
        case LWS_CALLBACK_SERVER_WRITEABLE:
                return websocket_writable(socket);
        case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE: /* libwebsockets answers it, and nothing follows */
                socket->closing = true;
                websocket_clear_queue(socket);
                return 0;
        case LWS_CALLBACK_CLOSED:
                websocket_finish(socket);
                return 0;
        default:
                return 0;
        }
}

void websocket_adopt(WebServer *server, int fd, Peer *peer, const char *key, bool protocol) {
        WebLoop *loop = server->loop;
        WebSocket *socket = new0(WebSocket, 1);
        char head[256];
        int n;

        if (!socket) {
                peer_release(peer);
                close(fd);
                return;
        }
        socket->peer = *peer;
        socket->protocol = protocol;
        STAILQ_INIT(&socket->queue);
        LIST_INSERT_HEAD(&server->sockets, socket, entry);

        n = snprintf(head, sizeof(head),
                "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
                key);
        loop->adopting = socket;
        /* It takes the fd in any case; from its first callback on it has the socket too, and on failure
         * frees it by the last. */
        lws_adopt_socket_vhost_readbuf(loop->vhost, fd, head, (size_t) n);
        socket = TAKE_PTR(loop->adopting);
        if (socket) {
                websocket_finish(socket);
                free(socket);
        }
}

static void on_lws_log(int level, const char *line) {
        log_debug("libwebsockets: %.*s", (int) strcspn(line, "\n"), line);
}

int websocket_loop_prepare(WebLoop *loop) {
        static const struct lws_protocols protocols[] = {{.name = "websocket",
                                                                 .callback = on_lws,
                                                                 .rx_buffer_size = READ_SIZE,
                                                                 .tx_packet_size = WRITE_SIZE},
                {}};
        static const lws_retry_bo_t no_pings = {};
        uv_loop_t *loops[] = {&loop->uv};
        struct lws_context_creation_info info = {
                .port = CONTEXT_PORT_NO_LISTEN_SERVER,
                .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                           LWS_SERVER_OPTION_VALIDATE_UTF8,
                .foreign_loops = (void **) loops,
                .pcontext = &loop->lws,
                .user = loop,
                .gid = (gid_t) -1,
                .uid = (uid_t) -1,
                .protocols = protocols,
                .vhost_name = "stonechat",
                .alpn = "http/1.1",
                .retry_and_idle_policy = &no_pings,
        };

        if (loop->lws)
                return 0;
        /* It logs "calling service" as an error on every connection. */
        lws_set_log_level(log_get_level() >= LOG_DEBUG ? LLL_ERR | LLL_WARN | LLL_NOTICE : 0, on_lws_log);
        loop->lws = lws_create_context(&info);
        if (!loop->lws)
                return -EIO; /* the plug-in for libuv is probably not installed */
        loop->vhost = lws_create_vhost(loop->lws, &info);
        return loop->vhost ? 0 : -EIO;
}

void websocket_loop_done(WebLoop *loop) {
        if (loop->lws)
                lws_context_destroy(loop->lws);
}
