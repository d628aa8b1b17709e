/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "log/log.h"
#include "log/message-ids.h"
#include "rpc/stream.h"
#include "schema-tables.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define ACCEPTS_PER_TURN 16U
/* How long accepting pauses when descriptors or memory are out. */
#define ACCEPT_PAUSE_USEC (100 * USEC_PER_MSEC)

/* Clients number their requests one after the other, so the last bits spread them best. */
#define REQUEST_BUCKETS 256U

struct RpcConnection {
        unsigned n_ref; /* the server's, one for each unanswered request, and whoever calls ref */
        Role role; /* who the peer is */
        bool identified; /* by its user: `role` is what identify() said */
        bool congested; /* somebody was told so */
        uid_t uid; /* (uid_t) -1: not known */
        char peer[80]; /* who, for the journal */
        RpcServer *server; /* NULL: gone */
        Stream *stream; /* NULL: gone */
        LIST_HEAD(, RpcRequest) requests[REQUEST_BUCKETS]; /* unanswered */
        unsigned n_pending;
        size_t pending_size;
        LIST_ENTRY(RpcConnection) others;
};

struct RpcRequest {
        LIST_ENTRY(RpcRequest) link; /* in its connection, while that is there */
        RpcConnection *connection;
        uint64_t id;
        size_t size;
        bool keeps_order;
        void *userdata;
};

struct RpcServer {
        sd_event *event;
        RpcServerHandlers handlers;
        void *userdata;
        int listen_fd;
        bool local; /* AF_UNIX: the peer's user is known */
        Role self;
        TlsContext *tls; /* NULL: plain */
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

/* Takes the connection out of its server; the server's reference goes to the caller. Its requests are in no list
 * from now on. */
static void connection_detach(RpcConnection *connection) {
        RpcServer *server = connection->server;

        FOREACH_ARRAY(bucket, connection->requests, REQUEST_BUCKETS)
                LIST_INIT(bucket);
        LIST_REMOVE(connection, others);
        server->n_connections--;
        server->n_pending -= connection->n_pending;
        connection->server = NULL;
        connection->stream = stream_free(connection->stream);
        check_drained(server);
}

/* Queues a frame. What does not fit a queue so long is lost, and so is the connection. */
static int connection_send(RpcConnection *connection, Lane lane, const Sc__Envelope *envelope) {
        if (!connection->stream)
                return -ENOTCONN;
        int r = stream_send(connection->stream, lane, envelope);
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
        return connection_send(connection, LANE_URGENT, &envelope);
}

/* --- who the peer is --- */

static int identify_by_default(const RpcIdentity *identity, Role *ret, _unused_ void *userdata) {
        bool known = identity->certificate_name || identity->uid == 0 || identity->uid == geteuid();

        *ret = ROLE_NONE;
        return known ? 0 : -EPERM;
}

static int identify(RpcConnection *connection, const char *certificate_name) {
        RpcServer *server = connection->server;
        const RpcIdentity identity = {.uid = connection->uid, .certificate_name = certificate_name};
        Role role = ROLE_NONE;

        int r = (server->handlers.identify ?: identify_by_default)(&identity, &role, server->userdata);
        if (r < 0)
                return r;
        connection->role = role;
        connection->identified = role != ROLE_NONE;
        return 0;
}

static int on_hello(const Sc__Envelope__Hello *hello, Role role, const char **ret_text, void *userdata) {
        RpcConnection *connection = userdata;

        if (!connection->server->local) {
                int r = identify(connection, transport_peer_name(stream_transport(connection->stream)));
                if (r < 0) {
                        *ret_text = "its certificate is no role's";
                        return r;
                }
        }
        if (connection->identified && connection->role != role) {
                *ret_text = "it calls itself another role than its user is";
                return -EPERM;
        }
        connection->role = role;
        return 0;
}

/* --- requests --- */

static void add_request(RpcConnection *connection, RpcRequest *request) {
        LIST_INSERT_HEAD(&connection->requests[request->id % REQUEST_BUCKETS], request, link);
        connection->n_pending++;
        connection->server->n_pending++;
        connection->pending_size += request->size;
        if (connection->n_pending >= RPC_MAX_PENDING || connection->pending_size > RPC_MAX_PENDING_SIZE)
                stream_pause_reading(connection->stream, true);
}

static int on_request(RpcConnection *connection, const Sc__Envelope *envelope) {
        RpcServer *server = connection->server;
        Trace trace;

        RpcRequest *request = new0(RpcRequest, 1);
        if (!request)
                return -ENOMEM;
        *request = (RpcRequest){
                .connection = rpc_connection_ref(connection),
                .id = envelope->id,
                .size = envelope->payload.len,
        };
        add_request(connection, request);
        RpcMessage message = rpc_message_from_envelope(envelope, &trace);
        server->handlers.on_request(request, &message, server->userdata);
        return 0;
}

static RpcRequest *find_request(RpcConnection *connection, uint64_t id) {
        RpcRequest *request;

        LIST_FOREACH(request, &connection->requests[id % REQUEST_BUCKETS], link)
                if (request->id == id)
                        return request;
        return NULL;
}

static int on_envelope(const Sc__Envelope *envelope, void *userdata) {
        RpcConnection *connection = userdata;
        RpcServer *server = connection->server;

        if (envelope->kind == SC__ENVELOPE__KIND__REQUEST)
                return on_request(connection, envelope);
        if (envelope->kind != SC__ENVELOPE__KIND__CANCEL)
                return -EPROTO;
        RpcRequest *request = find_request(connection, envelope->id);
        if (request && server->handlers.on_cancel) /* else it has been answered */
                server->handlers.on_cancel(request, server->userdata);
        return 0;
}

/* What one cancellation answers may be any of them. */
static void cancel_requests(RpcConnection *connection) {
        RpcServer *server = connection->server;
        RpcRequest *request;

        FOREACH_ARRAY(bucket, connection->requests, REQUEST_BUCKETS)
                while ((request = LIST_FIRST(bucket))) {
                        LIST_REMOVE(request, link);
                        request->link.le_prev = NULL;
                        if (server->handlers.on_cancel)
                                server->handlers.on_cancel(request, server->userdata);
                }
}

static void on_written(void *userdata) {
        RpcConnection *connection = userdata;
        RpcServer *server = connection->server;

        if (!connection->congested || stream_queued_bulk(connection->stream) > RPC_CONGESTED)
                return;
        connection->congested = false;
        if (server->handlers.on_room)
                server->handlers.on_room(connection, server->userdata);
}

static bool is_refusal(int error) {
        return error == -EPERM || error == -EPROTONOSUPPORT || error == -EPROTO || error == -EPROTOTYPE ||
               error == -EKEYREJECTED || error == -EKEYEXPIRED;
}

static void log_end(const RpcConnection *connection, int error, const char *text) {
        const char *role = role_to_string(connection->role) ?: "unknown role";

        if (is_refusal(error))
                log_peer((.message_id = MESSAGE_ID_PEER_REFUSED, .error_number = -error), LOG_WARNING,
                        "Refusing %s (%s): %s.", connection->peer, role, text);
        else if (error == -ETIMEDOUT)
                log_peer((.message_id = MESSAGE_ID_PEER_DEAD, .error_number = -error), LOG_WARNING,
                        "Giving up %s (%s): %s.", connection->peer, role, text);
        else if (error < 0)
                log_peer((.error_number = -error), LOG_NOTICE, "Closing the connection of %s (%s): %s.",
                        connection->peer, role, text);
}

static void on_end(int error, const char *text, void *userdata) {
        RpcConnection *connection = userdata;
        RpcServer *server = connection->server;

        log_end(connection, error, text);
        cancel_requests(connection);
        connection_detach(connection);
        if (server->handlers.on_disconnect)
                server->handlers.on_disconnect(connection, server->userdata);
        rpc_connection_unref(connection);
}

static const StreamHandlers stream_handlers = {
        .on_hello = on_hello,
        .on_envelope = on_envelope,
        .on_written = on_written,
        .on_end = on_end,
};

/* --- accepting --- */

static unsigned count_of_user(const RpcServer *server, uid_t uid) {
        const RpcConnection *connection;
        unsigned n = 0;

        LIST_FOREACH(connection, &server->connections, others)
                n += connection->uid == uid;
        return n;
}

/* Who asks must have been told: on an AF_UNIX socket before the first byte. */
static int check_local_peer(RpcConnection *connection, int fd) {
        struct ucred peer;
        socklen_t size = sizeof(peer);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return -errno;
        connection->uid = peer.uid;
        snprintf(connection->peer, sizeof(connection->peer), "process %d of user id %u", peer.pid, peer.uid);
        int r = identify(connection, NULL);
        if (r < 0) {
                log_peer((.message_id = MESSAGE_ID_PEER_REFUSED, .error_number = -r), LOG_WARNING,
                        "Refusing a connection of %s: %m.", connection->peer);
                return -EPERM;
        }
        if (count_of_user(connection->server, peer.uid) >= RPC_MAX_CONNECTIONS_OF_USER) {
                log_peer((.message_id = MESSAGE_ID_PEER_REFUSED), LOG_WARNING,
                        "Refusing a connection of %s: it has %u already.", connection->peer,
                        RPC_MAX_CONNECTIONS_OF_USER);
                return -EUSERS;
        }
        return 0;
}

static int check_remote_peer(RpcConnection *connection, int fd) {
        static const int one = 1;
        char host[INET6_ADDRSTRLEN] = "?";
        struct sockaddr_storage address = {};
        socklen_t size = sizeof(address);

        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (getpeername(fd, (struct sockaddr *) &address, &size) < 0)
                return -errno;
        if (address.ss_family == AF_INET)
                (void) inet_ntop(AF_INET, &((struct sockaddr_in *) &address)->sin_addr, host, sizeof(host));
        else if (address.ss_family == AF_INET6)
                (void) inet_ntop(
                        AF_INET6, &((struct sockaddr_in6 *) &address)->sin6_addr, host, sizeof(host));
        snprintf(connection->peer, sizeof(connection->peer), "host %s", host);
        return 0;
}

static int add_connection(RpcServer *server, int fd_taken) {
        _cleanup_close_ int fd = fd_taken;
        _cleanup_free_ RpcConnection *connection = NULL;
        _cleanup_(transport_freep) Transport *transport = NULL;

        if (server->n_connections >= RPC_MAX_CONNECTIONS) {
                log_peer((), LOG_WARNING, "Refusing a connection: there are %u already.",
                        server->n_connections);
                return -EUSERS;
        }
        connection = new0(RpcConnection, 1);
        if (!connection)
                return -ENOMEM;
        connection->n_ref = 1;
        connection->server = server;
        connection->uid = (uid_t) -1;
        int r = server->local ? check_local_peer(connection, fd) : check_remote_peer(connection, fd);
        if (r < 0)
                return r;
        r = transport_new(&transport, fd, server->tls);
        if (r < 0)
                return r;
        TAKE_FD(fd);
        r = stream_new(
                &connection->stream, server->event, transport, server->self, &stream_handlers, connection);
        if (r < 0)
                return r;
        TAKE_PTR(transport);
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

int rpc_server_new(RpcServer **ret, sd_event *event, int listen_fd, Role self,
        const RpcServerHandlers *handlers, void *userdata) {
        _cleanup_close_ int fd = listen_fd;
        _cleanup_(rpc_server_freep) RpcServer *server = new0(RpcServer, 1);
        if (!server)
                return -ENOMEM;
        server->event = sd_event_ref(event);
        server->handlers = *handlers;
        server->self = self;
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
        tls_context_unref(server->tls);
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

void rpc_server_set_tls(RpcServer *server, TlsContext *tls) {
        tls_context_ref(tls);
        tls_context_unref(server->tls);
        server->tls = tls;
}

bool rpc_connection_is_congested(RpcConnection *connection) {
        bool congested = connection->stream && stream_queued_bulk(connection->stream) > RPC_CONGESTED;

        connection->congested |= congested;
        return congested;
}

RpcConnection *rpc_request_connection(const RpcRequest *request) {
        return request->connection;
}

void rpc_request_set_userdata(RpcRequest *request, void *userdata) {
        request->userdata = userdata;
}

void *rpc_request_userdata(const RpcRequest *request) {
        return request->userdata;
}

void rpc_request_keep_order(RpcRequest *request) {
        request->keeps_order = true;
}

static void request_free(RpcRequest *request) {
        RpcConnection *connection = request->connection;
        RpcServer *server = connection->server;

        connection->n_pending--;
        connection->pending_size -= request->size;
        if (server && request->link.le_prev)
                LIST_REMOVE(request, link);
        if (connection->stream && connection->n_pending <= RPC_MAX_PENDING / 2 &&
                connection->pending_size <= RPC_MAX_PENDING_SIZE / 2)
                stream_pause_reading(connection->stream, false);
        rpc_connection_unref(connection);
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
        Lane lane = size > RPC_LARGE_ANSWER && !request->keeps_order ? LANE_BULK : LANE_URGENT;
        if (connection_send(request->connection, lane, &envelope) == -EMSGSIZE)
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
        return connection_send(connection, LANE_URGENT, &envelope);
}
