/* SPDX-License-Identifier: Apache-2.0 */
/* Plain connections belong to libwebsockets: it answers the handshake, frames and buffers what is sent, and owns the
 * socket. It gets each with a head that is written here, not by the peer.
 *
 * Receiving is ours (websocket-receive.c), so its reading is switched off for good once the handshake is answered. Of
 * what 4.1.6 reads it tells neither masks nor pings, takes frames without a mask, answers the first of several pings
 * only, echoes codes that must not stand in a frame, and keeps half a kibibyte for each connection to read into.
 *
 * Its own pings are off: every one keeps a place in a sorted list that is searched linearly; TCP keep-alive and the
 * protocol above find dead peers. */
#include <libwebsockets.h>
#include <stdio.h>
#include <sys/socket.h>

#include "log/log.h"
#include "web/websocket-internal.h"

/* It keeps a buffer of this size for each connection, in which nothing ever arrives. */
#define READ_SIZE 1U
/* Bytes libwebsockets writes at once; by default no more than READ_SIZE. What is left of a frame it
 * copies. */
#define WRITE_SIZE (64U << 10)

_Static_assert(LWS_PRE <= FRAME_HEADROOM, "libwebsockets wants more room for the header");

static int write_frame(struct lws *wsi, uint8_t *data, size_t size, enum lws_write_protocol protocol) {
        int n = lws_write(wsi, data, size, protocol);

        return n < (int) size ? -EPIPE : 0;
}

/* Its own closing handshake would begin to read again. It takes bytes that are ready to be sent, too. */
static int write_close(struct lws *wsi, uint8_t *payload, size_t size) {
        uint8_t head[FRAME_HEAD_MAX];
        size_t n = frame_write_head(head, FRAME_CLOSE, size);

        memcpy(payload - n, head, n);
        return write_frame(wsi, payload - n, n + size, LWS_WRITE_HTTP);
}

int lws_wire_write(struct lws *wsi, FrameOpcode opcode, uint8_t *payload, size_t size) {
        switch (opcode) {
        case FRAME_CLOSE:
                return write_close(wsi, payload, size);
        case FRAME_PONG:
                return write_frame(wsi, payload, size, LWS_WRITE_PONG);
        case FRAME_TEXT:
                return write_frame(wsi, payload, size, LWS_WRITE_TEXT);
        default:
                return write_frame(wsi, payload, size, LWS_WRITE_BINARY);
        }
}

bool lws_wire_is_blocked(struct lws *wsi) {
        return lws_partial_buffered(wsi) != 0;
}

int lws_wire_fd(struct lws *wsi) {
        return lws_get_socket_fd(wsi);
}

void lws_wire_free(struct lws *wsi) {
        lws_set_opaque_user_data(wsi, NULL);
        /* Otherwise it would try for a while to get rid of what it has buffered. */
        if (lws_partial_buffered(wsi))
                shutdown(lws_get_socket_fd(wsi), SHUT_RDWR);
        lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
}

/* --- callbacks --- */

/* Adds to the answer of the handshake that the subprotocol is accepted. */
static int add_headers(const WebSocket *socket, struct lws_process_html_args *args) {
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

/* libwebsockets has given the connection up: the kernel, or a write, has failed. */
static void given_up(WebSocket *socket) {
        lws_set_opaque_user_data(socket->wsi, NULL);
        websocket_unwatch(socket);
        socket->wsi = NULL;
        websocket_free(socket);
}

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

        switch (reason) {
        case LWS_CALLBACK_ADD_HEADERS:
                return add_headers(socket, in);
        case LWS_CALLBACK_ESTABLISHED:
                lws_rx_flow_control(wsi, 0);
                websocket_open(socket);
                return 0;
        case LWS_CALLBACK_SERVER_WRITEABLE:
                websocket_set_waiting(socket, true);
                return 0;
        case LWS_CALLBACK_CLOSED:
        case LWS_CALLBACK_WSI_DESTROY:
                given_up(socket);
                return 0;
        default:
                return 0;
        }
}

void lws_wire_adopt(WebSocket *socket, int fd, const char *key) {
        WebLoop *loop = websocket_server(socket)->loop;
        char head[256];
        int n;

        n = snprintf(head, sizeof(head),
                "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
                key);
        loop->adopting = socket;
        /* It takes the fd in any case; from its first callback on it has the socket too, and on failure
         * frees it by the last. */
        lws_adopt_socket_vhost_readbuf(loop->vhost, fd, head, (size_t) n);
        socket = TAKE_PTR(loop->adopting);
        if (socket)
                websocket_free(socket);
}

/* --- the context --- */

static void on_lws_log(int level, const char *line) {
        log_debug("libwebsockets: %.*s", (int) strcspn(line, "\n"), line);
}

int lws_wire_prepare(WebLoop *loop) {
        static const struct lws_protocols protocols[] = {{.name = "websocket",
                                                                 .callback = on_lws,
                                                                 .rx_buffer_size = READ_SIZE,
                                                                 .tx_packet_size = WRITE_SIZE},
                {}};
        static const lws_retry_bo_t no_pings = {};
        uv_loop_t *loops[] = {&loop->uv};
        struct lws_context_creation_info info = {
                .port = CONTEXT_PORT_NO_LISTEN_SERVER,
                .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
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

void lws_wire_done(WebLoop *loop) {
        if (loop->lws)
                lws_context_destroy(loop->lws);
}

/* RFC 6455 section 4.2.2. */
void websocket_accept_key(const char *key, char ret[static 32]) {
        char text[64];
        unsigned char digest[20];
        int n = snprintf(text, sizeof(text), "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);

        lws_SHA1((const unsigned char *) text, (size_t) n, digest);
        lws_b64_encode_string((const char *) digest, sizeof(digest), ret, 32);
}
