/* SPDX-License-Identifier: Apache-2.0 */
/* Who takes nothing of what waits for him is closed after stall_timeout_usec; who does not let go of a connection that
 * ends, after CLOSE_TIMEOUT_USEC. Each time is the same for all connections of a server, so there are two lists in the
 * order of their beginnings, and one timer. */
#include "util/fd-util.h"
#include "util/time-util.h"
#include "web/websocket-internal.h"

/* How long a peer may take to read the rest of the queue when the connection is to be closed, and once more for its
 * answer to the close frame, or its end. */
#define CLOSE_TIMEOUT_USEC (5 * USEC_PER_SEC)

struct Deadline {
        WebSocket *socket;
        TAILQ_ENTRY(Deadline) entry;
        bool closing;
        uint64_t since_usec; /* of a stall: when progress was last known of */
        uint64_t taken; /* fd_taken_by_peer() then */
};

static DeadlineList *deadline_list(const Deadline *deadline) {
        WebServer *server = websocket_server(deadline->socket);

        return deadline->closing ? &server->closing : &server->stalled;
}

static uint64_t server_next_deadline(const WebServer *server) {
        const Deadline *stalled = TAILQ_FIRST(&server->stalled), *closing = TAILQ_FIRST(&server->closing);
        uint64_t next = UINT64_MAX;

        if (stalled)
                next = stalled->since_usec + server->limits.stall_timeout_usec;
        if (closing)
                next = MIN(next, closing->since_usec + CLOSE_TIMEOUT_USEC);
        return next;
}

static void server_arm(WebServer *server) {
        uint64_t next = server_next_deadline(server);

        if (next == UINT64_MAX)
                return;
        sd_event_source_set_time(server->deadline_timer, next);
        sd_event_source_set_enabled(server->deadline_timer, SD_EVENT_ONESHOT);
        server->loop->rearmed = true;
}

static void deadline_start(Deadline *deadline) {
        deadline->since_usec = boottime_usec();
        TAILQ_INSERT_TAIL(deadline_list(deadline), deadline, entry);
        if (TAILQ_FIRST(deadline_list(deadline)) == deadline)
                server_arm(websocket_server(deadline->socket));
}

static Deadline *deadline_new(WebSocket *socket, bool closing) {
        Deadline *deadline = new0(Deadline, 1);

        if (!deadline)
                return NULL;
        deadline->socket = socket;
        deadline->closing = closing;
        return deadline;
}

void websocket_end_deadline(WebSocket *socket) {
        Deadline *deadline = TAKE_PTR(socket->deadline);

        if (!deadline)
                return;
        TAILQ_REMOVE(deadline_list(deadline), deadline, entry);
        free(deadline);
}

/* --- peers that take nothing --- */

/* Without memory for it the connection is not watched. */
void websocket_begin_stall(WebSocket *socket) {
        if (socket->deadline || websocket_server(socket)->limits.stall_timeout_usec == 0)
                return;
        socket->deadline = deadline_new(socket, false);
        if (!socket->deadline)
                return;
        socket->deadline->taken = fd_taken_by_peer(websocket_fd(socket));
        deadline_start(socket->deadline);
}

void websocket_end_stall(WebSocket *socket) {
        if (socket->deadline && !socket->deadline->closing)
                websocket_end_deadline(socket);
}

/* The time is up: has the peer taken something since? */
static void check_stalled(Deadline *deadline) {
        WebSocket *socket = deadline->socket;
        uint64_t taken = fd_taken_by_peer(websocket_fd(socket));

        if (taken == deadline->taken) {
                socket->slow = true;
                websocket_free(socket);
                return;
        }
        TAILQ_REMOVE(deadline_list(deadline), deadline, entry);
        deadline->taken = taken;
        deadline_start(deadline);
}

/* --- connections that end --- */

void websocket_begin_closing(WebSocket *socket) {
        websocket_end_deadline(socket);
        socket->deadline = deadline_new(socket, true);
        if (socket->deadline)
                deadline_start(socket->deadline);
        else
                websocket_break(socket);
}

int websocket_on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        WebServer *server = userdata;
        uint64_t now = boottime_usec();
        Deadline *first;

        while ((first = TAILQ_FIRST(&server->closing)) && first->since_usec + CLOSE_TIMEOUT_USEC <= now)
                websocket_free(first->socket);
        while ((first = TAILQ_FIRST(&server->stalled)) &&
                first->since_usec + server->limits.stall_timeout_usec <= now)
                check_stalled(first);
        server_arm(server);
        return 0;
}
