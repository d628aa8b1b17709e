/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for one WebSocket, and how it goes out: pushes and replies in one queue, in the order in which they were
 * queued. Frames are made when they are written, as what waits together then may share one. */
#include "util/string-util.h"
#include "web/websocket-internal.h"

/* What a queued message costs beyond its bytes, so that empty ones are bounded as well. */
#define QUEUED_OVERHEAD 32U
/* The largest scratch buffer that is kept. */
#define SCRATCH_KEEP (256U * 1024U)
/* Connections written to in one turn of the loop, so that those who send get their share. */
#define FLUSHES_PER_TURN 512U

struct Queued {
        STAILQ_ENTRY(Queued) entry;
        Bytes *message;
        bool binary, reply;
};

/* --- the queue --- */

static size_t *websocket_counter(WebSocket *socket, const Queued *queued) {
        return queued->reply ? &socket->queued_replies : &socket->queued;
}

static void websocket_take_first(WebSocket *socket) {
        Queued *first = STAILQ_FIRST(&socket->queue);

        STAILQ_REMOVE_HEAD(&socket->queue, entry);
        *websocket_counter(socket, first) -= first->message->size + QUEUED_OVERHEAD;
        bytes_unref(first->message);
        free(first);
}

void websocket_clear_queue(WebSocket *socket) {
        while (!STAILQ_EMPTY(&socket->queue))
                websocket_take_first(socket);
        bytes_unref(TAKE_PTR(socket->pong));
}

bool websocket_is_drained(const WebSocket *socket) {
        return STAILQ_EMPTY(&socket->queue) && !websocket_is_blocked(socket);
}

void websocket_set_waiting(WebSocket *socket, bool waiting) {
        WebLoop *loop = websocket_server(socket)->loop;

        if (socket->waiting == waiting)
                return;
        socket->waiting = waiting;
        if (waiting)
                TAILQ_INSERT_TAIL(&loop->waiting, socket, in_waiting);
        else
                TAILQ_REMOVE(&loop->waiting, socket, in_waiting);
}

static int websocket_queue(WebSocket *socket, Bytes *message, bool binary, bool reply) {
        Queued *last = new0(Queued, 1);

        if (!last)
                return -ENOMEM;
        last->message = bytes_ref(message);
        last->binary = binary;
        last->reply = reply;
        STAILQ_INSERT_TAIL(&socket->queue, last, entry);
        *websocket_counter(socket, last) += message->size + QUEUED_OVERHEAD;
        websocket_set_waiting(socket, true);
        return 0;
}

int websocket_send(WebSocket *socket, Bytes *message, bool binary) {
        if (socket->closing)
                return -ENOTCONN;
        if (socket->queued + message->size + QUEUED_OVERHEAD > websocket_server(socket)->limits.max_queue) {
                socket->slow = true;
                websocket_break(socket);
                return -ENOBUFS;
        }
        return websocket_queue(socket, message, binary, false);
}

int websocket_reply(WebSocket *socket, Bytes *message, bool binary) {
        return socket->closing ? -ENOTCONN : websocket_queue(socket, message, binary, true);
}

size_t websocket_queued(const WebSocket *socket) {
        return socket->queued;
}

size_t websocket_queued_replies(const WebSocket *socket) {
        return socket->queued_replies;
}

bool websocket_notify_drained(WebSocket *socket) {
        if (STAILQ_EMPTY(&socket->queue))
                return false;
        socket->wants_drained = true;
        return true;
}

/* --- frames --- */

int websocket_write_close(WebSocket *socket) {
        const char *reason = strempty(socket->close_reason);
        uint8_t buffer[FRAME_HEADROOM + FRAME_CONTROL_MAX], *payload = buffer + FRAME_HEADROOM;
        size_t size = MIN(strlen(reason), FRAME_CONTROL_MAX - 2);

        if (socket->close_code == CLOSE_NO_STATUS)
                return websocket_write_frame(socket, FRAME_CLOSE, payload, 0);
        payload[0] = (uint8_t) (socket->close_code >> 8);
        payload[1] = (uint8_t) socket->close_code;
        memcpy(payload + 2, reason, size);
        return websocket_write_frame(socket, FRAME_CLOSE, payload, 2 + size);
}

static int websocket_write_pong(WebSocket *socket) {
        uint8_t buffer[FRAME_HEADROOM + FRAME_CONTROL_MAX];
        Bytes *pong = TAKE_PTR(socket->pong);

        if (!pong)
                return 0;
        size_t size = pong->size;
        memcpy(buffer + FRAME_HEADROOM, pong->data, size);
        bytes_unref(pong);
        return websocket_write_frame(socket, FRAME_PONG, buffer + FRAME_HEADROOM, size);
}

/* How many messages of the queue, from the first on, become one frame, and its size. */
static size_t websocket_next_size(const WebSocket *socket, unsigned *ret_n) {
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

/* Moves the messages of the next frame from the queue to `out`. */
static void websocket_join(WebSocket *socket, uint8_t *out, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                const Queued *first = STAILQ_FIRST(&socket->queue);

                if (i > 0 && !first->binary)
                        *out++ = '\n';
                memcpy(out, first->message->data, first->message->size);
                out += first->message->size;
                websocket_take_first(socket);
        }
}

static int websocket_write_next(WebSocket *socket) {
        FrameOpcode opcode = STAILQ_FIRST(&socket->queue)->binary ? FRAME_BINARY : FRAME_TEXT;
        Buffer *scratch = &websocket_server(socket)->loop->scratch;
        unsigned n;
        size_t size = websocket_next_size(socket, &n);

        scratch->size = 0;
        uint8_t *frame = buffer_reserve(scratch, FRAME_HEADROOM + size);
        if (!frame) {
                buffer_done(scratch);
                return -ENOMEM;
        }
        websocket_join(socket, frame + FRAME_HEADROOM, n);
        int r = websocket_write_frame(socket, opcode, frame + FRAME_HEADROOM, size);
        if (scratch->allocated > SCRATCH_KEEP)
                buffer_done(scratch);
        return r;
}

/* Calls on_drained, if that was asked for and is due. */
static void websocket_check_drained(WebSocket *socket) {
        WebServer *server = websocket_server(socket);

        if (!socket->wants_drained || !STAILQ_EMPTY(&socket->queue) || socket->closing)
                return;
        socket->wants_drained = false;
        server->loop->rearmed = true;
        if (server->handlers.on_drained)
                server->handlers.on_drained(socket, server->userdata);
}

int websocket_write_queue(WebSocket *socket) {
        int r = websocket_write_rest(socket);

        if (r >= 0 && !websocket_is_blocked(socket))
                r = websocket_write_pong(socket);
        while (r >= 0 && !websocket_is_blocked(socket) && !STAILQ_EMPTY(&socket->queue)) {
                r = websocket_write_next(socket);
                if (r >= 0)
                        websocket_check_drained(socket);
        }
        if (r < 0)
                return r;
        if (websocket_is_blocked(socket))
                websocket_begin_stall(socket);
        else
                websocket_end_stall(socket);
        return 0;
}

bool websocket_flush(WebLoop *loop) {
        WebSocket *socket;
        unsigned n = 0;

        /* Not those who come to wait meanwhile: some have more to be read, again and again. */
        TAILQ_FOREACH(socket, &loop->waiting, in_waiting)
                if (++n == FLUSHES_PER_TURN)
                        break;
        for (; n > 0 && (socket = TAILQ_FIRST(&loop->waiting)); n--) {
                websocket_set_waiting(socket, false);
                if (socket->broken || websocket_write_queue(socket) < 0 ||
                        (websocket_has_pending(socket) && websocket_read(socket) < 0))
                        websocket_free(socket);
                else
                        websocket_advance(socket);
        }
        /* This turn has looked at the event sources already. */
        return TAKE_GENERIC(loop->rearmed, false) || !TAILQ_EMPTY(&loop->waiting);
}
