/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "log/log.h"
#include "rpc/stream.h"
#include "schema-tables.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define ACCEPTS_PER_TURN 16U
/* How long accepting pauses when descriptors or memory are out. */
#define ACCEPT_PAUSE_USEC (100 * USEC_PER_MSEC)

struct RpcConnection {
        unsigned n_ref; /* the server's, one for each unanswered request, and whoever calls ref */
        Role role; /* who the peer is; ROLE_NONE: not known */
        RpcServer *server; /* NULL: gone */
        Stream *stream; /* NULL: gone */
        unsigned n_pending;
        LIST_ENTRY(RpcConnection) others;
};

struct RpcRequest {
        RpcConnection *connection;
        uint64_t id;
};

struct RpcServer {
        sd_event *event;
        RpcServerHandlers handlers;
        void *userdata;
        int listen_fd;
        bool local; /* AF_UNIX: the peer's user is known */
        sd_event_source *listener, *pause;
        LIST_HEAD(, RpcConnection) connections;
        unsigned n_connections;
        size_t n_pending; /* unanswered requests of all of them */
        void (*drained)(void *userdata); /* not NULL: draining */
        void *drained_userdata;
};

Role rpc_connection_role(const RpcConnection *connection) {
        return connection->role;
}

RpcConnection *rpc_connection_ref(RpcConnection *connection) {
        assert_se(connection->n_ref > 0);
        connection->n_ref++;
        return connection;
}

RpcConnection *rpc_connection_unref(RpcConnection *connection) {
        if (connection && --connection->n_ref == 0)
                free(connection);
        return NULL;
}

static void check_drained(RpcServer *server) {
        void (*drained)(void *userdata) = server->drained;

        if (!drained || server->n_pending > 0)
                return;
        server->drained = NULL;
        drained(server->drained_userdata);
}

/* Takes the connection out of its server; the server's reference goes to the caller. */
static void connection_detach(RpcConnection *connection) {
        RpcServer *server = connection->server;

        LIST_REMOVE(connection, others);
        server->n_connections--;
        server->n_pending -= connection->n_pending;
        connection->server = NULL;
        connection->stream = stream_free(connection->stream);
        check_drained(server);
}

/* Queues a frame; a peer that does not read, so that its queue is full, is disconnected. */
static int connection_send(RpcConnection *connection, const Sc__Envelope *envelope) {
        if (!connection->stream)
                return -ENOTCONN;
        int r = stream_send(connection->stream, envelope);
        if (r == -ENOBUFS || r == -ENOMEM)
                stream_abort(connection->stream, r);
        return r;
}

static int send_failure(RpcConnection *connection, uint64_t id, Sc__ErrorCode code, const char *detail) {
        Sc__Envelope envelope = SC__ENVELOPE__INIT;

        envelope.kind = SC__ENVELOPE__KIND__RESPONSE;
        envelope.id = id;
        envelope.error = code;
        envelope.error_detail = (char *) strempty(detail);
        return connection_send(connection, &envelope);
}

static int on_envelope(const Sc__Envelope *envelope, void *userdata) {
        RpcConnection *connection = userdata;
        RpcServer *server = connection->server;
        Trace trace;

        if (envelope->kind != SC__ENVELOPE__KIND__REQUEST)
                return -EPROTO;
        if (connection->n_pending >= RPC_MAX_PENDING) {
                (void) send_failure(connection, envelope->id, ERROR_OVERLOADED, "Too many requests wait");
                return 0;
        }

        RpcRequest *request = new0(RpcRequest, 1);
        if (!request)
                return -ENOMEM;
        *request = (RpcRequest){.connection = rpc_connection_ref(connection), .id = envelope->id};
        connection->n_pending++;
        server->n_pending++;
        RpcMessage message = rpc_message_from_envelope(envelope, &trace);
        server->handlers.on_request(request, &message, server->userdata);
        return 0;
}

static void on_end(int error, void *userdata) {
        RpcConnection *connection = userdata;
        RpcServer *server = connection->server;

        if (error < 0)
                log_peer((.error_number = -error), LOG_NOTICE, "Closing the connection of a role: %m");
        connection_detach(connection);
        if (server->handlers.on_disconnect)
                server->handlers.on_disconnect(connection, server->userdata);
        rpc_connection_unref(connection);
}

static const StreamHandlers stream_handlers = {
        .on_envelope = on_envelope,
        .on_end = on_end,
};

static int identify_by_default(const RpcIdentity *identity, Role *ret, _unused_ void *userdata) {
        if (identity->uid != 0 && identity->uid != geteuid())
                return -EPERM;
        *ret = ROLE_NONE;
        return 0;
}

static int check_peer(const RpcServer *server, int fd, Role *ret) {
        struct ucred peer;
        socklen_t size = sizeof(peer);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return -errno;
        int r = (server->handlers.identify ?: identify_by_default)(
                &(RpcIdentity){.uid = peer.uid}, ret, server->userdata);
        if (r < 0)
                log_peer((.error_number = -r), LOG_WARNING,
                        "Refusing a connection of user id %u, process %d: %m", peer.uid, peer.pid);
        return r;
}

static int add_connection(RpcServer *server, int fd_taken) {
        _cleanup_close_ int fd = fd_taken;
        _cleanup_free_ RpcConnection *connection = NULL;

        if (server->n_connections >= RPC_MAX_CONNECTIONS) {
                log_peer((), LOG_WARNING, "Refusing a connection: there are %u already.",
                        server->n_connections);
                return -EUSERS;
        }
        Role role = ROLE_NONE;
        int r = server->local ? check_peer(server, fd, &role) : 0;
        if (r < 0)
                return r;
        connection = new0(RpcConnection, 1);
        if (!connection)
                return -ENOMEM;
        connection->n_ref = 1;
        connection->server = server;
        connection->role = role;
        r = stream_new(&connection->stream, server->event, fd, &stream_handlers, connection);
        if (r < 0)
                return r;
        TAKE_FD(fd);
        LIST_INSERT_HEAD(&server->connections, connection, others);
        server->n_connections++;
        TAKE_PTR(connection);
        return 0;
}

static int on_pause_over(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        RpcServer *server = userdata;
        return sd_event_source_set_enabled(server->listener, SD_EVENT_ON);
}

static void pause_accepting(RpcServer *server) {
        sd_event_source_set_enabled(server->listener, SD_EVENT_OFF);
        sd_event_source_set_time_relative(server->pause, ACCEPT_PAUSE_USEC);
        sd_event_source_set_enabled(server->pause, SD_EVENT_ONESHOT);
}

static int on_listener(_unused_ sd_event_source *source, int fd, _unused_ uint32_t revents, void *userdata) {
        RpcServer *server = userdata;

        for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
                int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (peer < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
                        return 0;
                if (peer < 0) {
                        log_peer((.error_number = errno), LOG_ERR, "Failed to accept a connection: %m");
                        pause_accepting(server);
                        return 0;
                }
                int r = add_connection(server, peer);
                if (r < 0 && r != -EPERM && r != -EUSERS)
                        log_peer((.error_number = -r), LOG_ERR, "Failed to set up a connection: %m");
        }
        return 0;
}

static int server_set_up(RpcServer *server) {
        int domain;
        socklen_t size = sizeof(domain);

        if (getsockopt(server->listen_fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0)
                return -errno;
        server->local = domain == AF_UNIX;
        if (fcntl(server->listen_fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        int r = sd_event_add_time_relative(
                server->event, &server->pause, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_pause_over, server);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(server->pause, SD_EVENT_OFF);
        if (r < 0)
                return r;
        return sd_event_add_io(
                server->event, &server->listener, server->listen_fd, EPOLLIN, on_listener, server);
}

int rpc_server_new(
        RpcServer **ret, sd_event *event, int listen_fd, const RpcServerHandlers *handlers, void *userdata) {
        _cleanup_close_ int fd = listen_fd;
        _cleanup_(rpc_server_freep) RpcServer *server = new0(RpcServer, 1);
        if (!server)
                return -ENOMEM;
        server->event = sd_event_ref(event);
        server->handlers = *handlers;
        server->userdata = userdata;
        server->listen_fd = TAKE_FD(fd);
        LIST_INIT(&server->connections);
        int r = server_set_up(server);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(server);
        return 0;
}

RpcServer *rpc_server_free(RpcServer *server) {
        RpcConnection *connection;

        if (!server)
                return NULL;
        rpc_server_stop_accepting(server);
        server->drained = NULL;
        while ((connection = LIST_FIRST(&server->connections))) {
                stream_flush(connection->stream);
                connection_detach(connection);
                rpc_connection_unref(connection);
        }
        sd_event_unref(server->event);
        free(server);
        return NULL;
}

unsigned rpc_server_n_connections(const RpcServer *server) {
        return server->n_connections;
}

void rpc_server_stop_accepting(RpcServer *server) {
        server->listener = sd_event_source_disable_unref(server->listener);
        server->pause = sd_event_source_disable_unref(server->pause);
        server->listen_fd = safe_close(server->listen_fd);
}

void rpc_server_drain(RpcServer *server, void (*drained)(void *userdata), void *userdata) {
        RpcConnection *connection;

        rpc_server_stop_accepting(server);
        LIST_FOREACH(connection, &server->connections, others)
                stream_stop_reading(connection->stream);
        server->drained = drained;
        server->drained_userdata = userdata;
        check_drained(server);
}

RpcConnection *rpc_request_connection(const RpcRequest *request) {
        return request->connection;
}

static void request_free(RpcRequest *request) {
        RpcServer *server = request->connection->server;

        request->connection->n_pending--;
        rpc_connection_unref(request->connection);
        free(request);
        if (server) {
                server->n_pending--;
                check_drained(server);
        }
}

void rpc_request_reply(RpcRequest *request, const void *payload, size_t size) {
        Sc__Envelope envelope = SC__ENVELOPE__INIT;

        envelope.kind = SC__ENVELOPE__KIND__RESPONSE;
        envelope.id = request->id;
        envelope.payload = (ProtobufCBinaryData){size, (uint8_t *) payload};
        if (connection_send(request->connection, &envelope) == -EMSGSIZE)
                (void) send_failure(
                        request->connection, request->id, ERROR_INTERNAL, "The response is too large");
        request_free(request);
}

void rpc_request_fail(RpcRequest *request, Sc__ErrorCode code, const char *detail) {
        /* A response without an error would be a success. */
        if (code == ERROR_NONE)
                code = ERROR_INTERNAL;
        if (send_failure(request->connection, request->id, code, detail) == -EMSGSIZE)
                (void) send_failure(request->connection, request->id, code, NULL);
        request_free(request);
}

int rpc_connection_push(RpcConnection *connection, const char *method, const Trace *trace,
        const void *payload, size_t size) {
        const RpcMessage message = {
                .method = method, .trace = trace, .payload = payload, .payload_size = size};
        Sc__Trace wire_trace;

        Sc__Envelope envelope = rpc_message_to_envelope(SC__ENVELOPE__KIND__PUSH, 0, &message, &wire_trace);
        return connection_send(connection, &envelope);
}
