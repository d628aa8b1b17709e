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
#include "web/web-internal.h"

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
/* What a queued message costs beyond its bytes, so that empty ones are bounded as well. */
#define QUEUED_OVERHEAD 32U
/* The largest scratch buffer that is kept. */
#define SCRATCH_KEEP (256U * 1024U)
/* Connections written to in one turn of the loop, so that those who send get their share. */
#define FLUSHES_PER_TURN 512U

typedef struct Queued {
        STAILQ_ENTRY(Queued) entry;
        Bytes *message;
        bool binary;
} Queued;

struct WebSocket {
        Peer peer; /* server NULL: on_close was called, only the memory is left */
        struct lws *wsi;
        void *userdata;
        LIST_ENTRY(WebSocket) entry;
        TAILQ_ENTRY(WebSocket) in_waiting;

        STAILQ_HEAD(, Queued) queue;
        size_t queued; /* bytes, each message with QUEUED_OVERHEAD */

        Buffer message; /* what came of a message so far */
        bool open; /* on_open was called, on_close not yet */
        bool closing; /* nothing more is taken from or for the peer */
        bool dropping; /* the rest of a message that was refused is still coming */
        bool slow;
        bool protocol; /* the server's subprotocol was offered */
        bool waiting; /* in loop->waiting */

        uint16_t close_code; /* of websocket_close() */
        char *close_reason;
};

static WebServer *websocket_server(const WebSocket *socket) {
        return socket->peer.server;
}

static void websocket_take_first(WebSocket *socket) {
        Queued *first = STAILQ_FIRST(&socket->queue);

        STAILQ_REMOVE_HEAD(&socket->queue, entry);
        socket->queued -= first->message->size + QUEUED_OVERHEAD;
        bytes_unref(first->message);
        free(first);
}

static void websocket_clear_queue(WebSocket *socket) {
        while (!STAILQ_EMPTY(&socket->queue))
                websocket_take_first(socket);
}

/* The queue is written at the end of the turn. */
static void websocket_set_waiting(WebSocket *socket, bool waiting) {
        WebLoop *loop = websocket_server(socket)->loop;

        if (socket->waiting == waiting)
                return;
        socket->waiting = waiting;
        if (waiting)
                TAILQ_INSERT_TAIL(&loop->waiting, socket, in_waiting);
        else
                TAILQ_REMOVE(&loop->waiting, socket, in_waiting);
}

/* Calls on_close and lets go of the connection; libwebsockets frees the memory later. */
static void websocket_finish(WebSocket *socket) {
        WebServer *server = websocket_server(socket);

        if (!server)
                return;
        socket->closing = true;
        websocket_set_waiting(socket, false);
        websocket_clear_queue(socket);
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
static void websocket_close_by_timer(WebSocket *socket, int sec) {
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

/* --- to the peer --- */

/* How many messages of the queue, from the first on, become one frame, and its size. */
static size_t websocket_frame_size(const WebSocket *socket, unsigned *ret_n) {
        const Queued *queued = STAILQ_FIRST(&socket->queue);
        size_t size = queued->message->size, max = websocket_server(socket)->limits.max_coalesced;
        bool binary = queued->binary;

        for (*ret_n = 1; (queued = STAILQ_NEXT(queued, entry)) && queued->binary == binary; (*ret_n)++) {
                size_t longer = size + queued->message->size + !binary;
                if (longer > max)
                        break;
                size = longer;
        }
        return size;
}

/* Takes the messages of the next frame off the queue. */
static void websocket_take_frame(WebSocket *socket, uint8_t *out, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                const Queued *first = STAILQ_FIRST(&socket->queue);

                if (i > 0 && !first->binary)
                        *out++ = '\n';
                memcpy(out, first->message->data, first->message->size);
                out += first->message->size;
                websocket_take_first(socket);
        }
}

static int websocket_write_frame(WebSocket *socket) {
        Buffer *scratch = &websocket_server(socket)->loop->scratch;
        bool binary = STAILQ_FIRST(&socket->queue)->binary;
        unsigned n_messages;
        size_t size = websocket_frame_size(socket, &n_messages);
        uint8_t *data;
        int n;

        scratch->size = 0;
        data = buffer_reserve(scratch, LWS_PRE + size);
        if (!data) {
                buffer_done(scratch);
                return -ENOMEM;
        }
        websocket_take_frame(socket, data + LWS_PRE, n_messages);
        n = lws_write(socket->wsi, data + LWS_PRE, size, binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT);
        if (scratch->allocated > SCRATCH_KEEP)
                buffer_done(scratch);
        return n < (int) size ? -EPIPE : 0;
}

/* Begins libwebsockets' closing handshake. Not by answering -1 from the callback: Debian's build is a debug
 * build, which then closes twice to see whether it can, and so ends the connection before the close frame is
 * out. */
static void websocket_send_close(WebSocket *socket) {
        const char *reason = strempty(socket->close_reason);

        lws_close_reason(socket->wsi, socket->close_code, (unsigned char *) reason, strlen(reason));
        lws_set_timeout(socket->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
}

/* Writes until the kernel takes no more: what libwebsockets keeps then is the rest of one frame. */
static int websocket_write_queue(WebSocket *socket) {
        WebServer *server = websocket_server(socket);

        while (!STAILQ_EMPTY(&socket->queue) && !lws_partial_buffered(socket->wsi)) {
                int r = websocket_write_frame(socket);
                if (r < 0)
                        return r;
                if (STAILQ_EMPTY(&socket->queue) && !socket->closing && server->handlers.on_drained)
                        server->handlers.on_drained(socket, server->userdata);
        }
        if (!STAILQ_EMPTY(&socket->queue))
                lws_callback_on_writable(socket->wsi);
        return 0;
}

/* The socket takes data again, or is to be closed. */
static int websocket_writable(WebSocket *socket) {
        if (websocket_write_queue(socket) < 0)
                return -1;
        if (!STAILQ_EMPTY(&socket->queue) || socket->close_code == 0 || socket->dropping)
                return 0;
        if (lws_partial_buffered(socket->wsi)) /* the rest of the last frame first */
                lws_callback_on_writable(socket->wsi);
        else
                websocket_send_close(socket);
        return 0;
}

/* Writes at once, without having the loop ask the kernel whether the socket takes data: it nearly always
 * does, and asking costs four epoll_ctl() a time. */
bool websocket_flush(WebLoop *loop) {
        WebSocket *socket;
        bool more = false;

        for (unsigned i = 0; i < FLUSHES_PER_TURN && (socket = TAILQ_FIRST(&loop->waiting)); i++) {
                websocket_set_waiting(socket, false);
                /* on_drained may have armed event sources, which this turn has looked at already. */
                more = more || websocket_server(socket)->handlers.on_drained;
                if (websocket_write_queue(socket) >= 0)
                        continue;
                socket->closing = true;
                websocket_clear_queue(socket);
                websocket_close_by_timer(socket, LWS_TO_KILL_ASYNC);
        }
        return more || !TAILQ_EMPTY(&loop->waiting);
}

int websocket_send(WebSocket *socket, Bytes *message, bool binary) {
        Queued *last;
        size_t size;

        if (!socket->open || socket->closing)
                return -ENOTCONN;
        size = message->size + QUEUED_OVERHEAD;
        if (socket->queued + size > websocket_server(socket)->limits.max_queue) {
                socket->closing = socket->slow = true;
                websocket_clear_queue(socket);
                websocket_close_by_timer(socket, LWS_TO_KILL_ASYNC);
                return -ENOBUFS;
        }
        last = new0(Queued, 1);
        if (!last)
                return -ENOMEM;
        last->message = bytes_ref(message);
        last->binary = binary;
        STAILQ_INSERT_TAIL(&socket->queue, last, entry);
        socket->queued += size;
        websocket_set_waiting(socket, true);
        return 0;
}

size_t websocket_queued(const WebSocket *socket) {
        return socket->queued;
}

void websocket_close(WebSocket *socket, unsigned code, const char *reason) {
        if (!socket->open || socket->closing)
                return;
        socket->closing = true;
        socket->close_code = (uint16_t) code;
        socket->close_reason = reason ? strndup(reason, 123) : NULL;
        lws_callback_on_writable(socket->wsi);
        websocket_close_by_timer(socket, CLOSE_TIMEOUT_SEC);
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
