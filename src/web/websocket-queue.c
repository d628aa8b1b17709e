/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for one WebSocket, and how it goes out: pushes and replies in one queue, in the order in which they
 * were queued. */
#include "util/fd-util.h"
#include "util/time-util.h"
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

/* A connection whose peer has not taken everything. There is one timer for all of a server, as the time is the
 * same for each: the list is in the order of `since_usec`. */
struct Stall {
        WebSocket *socket;
        TAILQ_ENTRY(Stall) entry;
        uint64_t since_usec; /* when progress was last known of */
        uint64_t taken; /* fd_taken_by_peer() then */
};

/* --- peers that take nothing --- */

static void stall_arm(WebServer *server) {
        Stall *first = TAILQ_FIRST(&server->stalls);

        if (!first)
                return;
        sd_event_source_set_time(server->stall_timer, first->since_usec + server->limits.stall_timeout_usec);
        sd_event_source_set_enabled(server->stall_timer, SD_EVENT_ONESHOT);
}

static void stall_remember(Stall *stall, uint64_t taken) {
        WebServer *server = websocket_server(stall->socket);

        stall->taken = taken;
        stall->since_usec = boottime_usec();
        TAILQ_INSERT_TAIL(&server->stalls, stall, entry);
}

/* Without memory for it the connection is not watched. */
static void websocket_begin_stall(WebSocket *socket, bool *again) {
        WebServer *server = websocket_server(socket);

        if (socket->stall || server->limits.stall_timeout_usec == 0)
                return;
        socket->stall = new0(Stall, 1);
        if (!socket->stall)
                return;
        socket->stall->socket = socket;
        stall_remember(socket->stall, fd_taken_by_peer(lws_get_socket_fd(socket->wsi)));
        if (TAILQ_FIRST(&server->stalls) != socket->stall)
                return;
        stall_arm(server);
        *again = true;
}

static void websocket_end_stall(WebSocket *socket) {
        if (!socket->stall)
                return;
        TAILQ_REMOVE(&websocket_server(socket)->stalls, socket->stall, entry);
        socket->stall = mfree(socket->stall);
}

static void websocket_close_slow(WebSocket *socket) {
        socket->closing = socket->slow = true;
        websocket_clear_queue(socket);
        websocket_close_by_timer(socket, LWS_TO_KILL_ASYNC);
}

/* The connection's time is up: 30 s ago it had something to take. */
static void stall_check(Stall *stall) {
        WebSocket *socket = stall->socket;
        uint64_t taken = fd_taken_by_peer(lws_get_socket_fd(socket->wsi));

        if (socket->closing || (websocket_queue_is_empty(socket) && !lws_partial_buffered(socket->wsi)))
                websocket_end_stall(socket);
        else if (taken != stall->taken) {
                TAILQ_REMOVE(&websocket_server(socket)->stalls, stall, entry);
                stall_remember(stall, taken);
        } else {
                websocket_end_stall(socket);
                websocket_close_slow(socket);
        }
}

int websocket_on_stall_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        WebServer *server = userdata;
        uint64_t now = boottime_usec();
        Stall *first;

        while ((first = TAILQ_FIRST(&server->stalls)) &&
                first->since_usec + server->limits.stall_timeout_usec <= now)
                stall_check(first);
        stall_arm(server);
        return 0;
}

/* --- the queue --- */

bool websocket_queue_is_empty(const WebSocket *socket) {
        return STAILQ_EMPTY(&socket->queue);
}

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

void websocket_end_sending(WebSocket *socket) {
        websocket_set_waiting(socket, false);
        websocket_end_stall(socket);
        websocket_clear_queue(socket);
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
        if (!socket->open || socket->closing)
                return -ENOTCONN;
        if (socket->queued + message->size + QUEUED_OVERHEAD > websocket_server(socket)->limits.max_queue) {
                websocket_close_slow(socket);
                return -ENOBUFS;
        }
        return websocket_queue(socket, message, binary, false);
}

int websocket_reply(WebSocket *socket, Bytes *message, bool binary) {
        if (!socket->open || socket->closing)
                return -ENOTCONN;
        return websocket_queue(socket, message, binary, true);
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

/* --- writing --- */

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

/* Calls on_drained, if that was asked for and is due. */
static bool websocket_drained(WebSocket *socket) {
        WebServer *server = websocket_server(socket);

        if (!socket->wants_drained || !STAILQ_EMPTY(&socket->queue) || socket->closing)
                return false;
        socket->wants_drained = false;
        if (server->handlers.on_drained)
                server->handlers.on_drained(socket, server->userdata);
        return true;
}

/* What libwebsockets keeps when the kernel takes no more is the rest of one frame. Sets *again if event sources may
 * have been armed. */
static int websocket_write(WebSocket *socket, bool *again) {
        while (!STAILQ_EMPTY(&socket->queue) && !lws_partial_buffered(socket->wsi)) {
                int r = websocket_write_frame(socket);
                if (r < 0)
                        return r;
                *again |= websocket_drained(socket);
        }
        if (!STAILQ_EMPTY(&socket->queue))
                lws_callback_on_writable(socket->wsi);
        if (!STAILQ_EMPTY(&socket->queue) || lws_partial_buffered(socket->wsi))
                websocket_begin_stall(socket, again);
        else
                websocket_end_stall(socket);
        return 0;
}

int websocket_write_queue(WebSocket *socket) {
        bool again = false;

        return websocket_write(socket, &again);
}

/* Writes at once, without having the loop ask the kernel whether the socket takes data: it nearly always
 * does, and asking costs four epoll_ctl() a time. */
bool websocket_flush(WebLoop *loop) {
        WebSocket *socket;
        bool again = false;

        for (unsigned i = 0; i < FLUSHES_PER_TURN && (socket = TAILQ_FIRST(&loop->waiting)); i++) {
                websocket_set_waiting(socket, false);
                if (websocket_write(socket, &again) >= 0)
                        continue;
                socket->closing = true;
                websocket_clear_queue(socket);
                websocket_close_by_timer(socket, LWS_TO_KILL_ASYNC);
        }
        /* This turn has looked at the event sources already. */
        return again || !TAILQ_EMPTY(&loop->waiting);
}
