/* SPDX-License-Identifier: Apache-2.0 */
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/un.h>

#include "log/log.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"
#include "web/web-internal.h"

/* Connections accepted in one turn of the loop, so that existing ones get their turns when many come at
 * once. */
#define ACCEPTS_PER_TURN 64U
/* How long accepting pauses when file descriptors or memory are out. */
#define REARM_USEC (200 * USEC_PER_MSEC)

typedef union SocketAddress {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
} SocketAddress;

/* --- addresses --- */

static void address_key(const SocketAddress *from, struct in6_addr *ret) {
        *ret = (struct in6_addr){};
        if (from->sa.sa_family == AF_INET) {
                ret->s6_addr[10] = ret->s6_addr[11] = 0xff;
                memcpy(ret->s6_addr + 12, &from->in.sin_addr, 4);
        } else if (from->sa.sa_family == AF_INET6)
                memcpy(ret, &from->in6.sin6_addr, IN6_IS_ADDR_V4MAPPED(&from->in6.sin6_addr) ? 16 : 8);
}

static void address_format(const SocketAddress *from, char out[static INET6_ADDRSTRLEN]) {
        if (from->sa.sa_family == AF_INET)
                inet_ntop(AF_INET, &from->in.sin_addr, out, INET6_ADDRSTRLEN);
        else if (from->sa.sa_family != AF_INET6)
                strcpy(out, "local");
        else if (IN6_IS_ADDR_V4MAPPED(&from->in6.sin6_addr))
                inet_ntop(AF_INET, from->in6.sin6_addr.s6_addr + 12, out, INET6_ADDRSTRLEN);
        else
                inet_ntop(AF_INET6, &from->in6.sin6_addr, out, INET6_ADDRSTRLEN);
}

/* Counts one more connection, or answers why not. */
static Sc__ErrorCode peer_admit(Peer *peer, WebServer *server, const SocketAddress *from) {
        const WebLimits *limits = &server->limits;
        struct in6_addr key;
        Address *address;

        if (limits->max_connections > 0 && server->n_connections >= limits->max_connections)
                return SC__ERROR_CODE__ERROR_OVERLOADED;

        address_key(from, &key);
        HASH_FIND(hh, server->addresses, &key, sizeof(key), address);
        if (!address) {
                address = new0(Address, 1);
                if (!address)
                        return SC__ERROR_CODE__ERROR_OVERLOADED;
                address->key = key;
                HASH_ADD(hh, server->addresses, key, sizeof(address->key), address);
                if (!HASH_WAS_ADDED(address)) {
                        free(address);
                        return SC__ERROR_CODE__ERROR_OVERLOADED;
                }
        } else if (limits->max_connections_per_address > 0 &&
                   address->n_connections >= limits->max_connections_per_address)
                return SC__ERROR_CODE__ERROR_RATE_LIMITED;

        address->n_connections++;
        server->n_connections++;
        peer->server = server;
        peer->address = address;
        address_format(from, peer->text);
        return SC__ERROR_CODE__ERROR_NONE;
}

void peer_release(Peer *peer) {
        WebServer *server = peer->server;

        if (!server)
                return;
        server->n_connections--;
        if (--peer->address->n_connections == 0) {
                HASH_DEL(server->addresses, peer->address);
                free(peer->address);
        }
        peer->server = NULL;
}

/* --- accepting --- */

static void set_listening(WebServer *server, bool on) {
        Listener *listener;
        SLIST_FOREACH(listener, &server->listeners, entry)
                sd_event_source_set_enabled(listener->source, on ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int on_rearm(sd_event_source *source, uint64_t usec, void *userdata) {
        set_listening(userdata, true);
        return 0;
}

/* Without file descriptors the listener stays readable, and the loop would spin: stop listening for a
 * while. */
static void pause_listening(WebServer *server, int error) {
        log_peer((.error_number = error), LOG_WARNING, "Cannot accept connections just now: %m");
        set_listening(server, false);
        sd_event_source_set_time_relative(server->rearm, REARM_USEC);
        sd_event_source_set_enabled(server->rearm, SD_EVENT_ONESHOT);
}

static void take_connection(Listener *listener, int connected_fd, const SocketAddress *from) {
        _cleanup_(transport_freep) Transport *transport = NULL;
        _cleanup_close_ int fd = connected_fd;
        WebServer *server = listener->server;
        Sc__ErrorCode code;
        Peer peer = {};

        /* Small answers must not wait for acknowledgements. On AF_UNIX this fails, and is not needed. */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));

        if (listener->tls && !server->tls) /* the role is told to have a certificate before it listens */
                return;
        code = peer_admit(&peer, server, from);
        if (code != SC__ERROR_CODE__ERROR_NONE) {
                log_peer((.error = schema_error(code)->name), LOG_NOTICE, "Refused a connection: %s.",
                        schema_error(code)->title);
                if (!listener->tls)
                        http_refuse_fd(server, fd, code);
                return;
        }
        int r = transport_new(&transport, fd, listener->tls ? server->tls : NULL);
        if (r < 0)
                peer_release(&peer);
        else {
                TAKE_FD(fd);
                r = http_connection_new(server, TAKE_PTR(transport), &peer);
        }
        if (r < 0)
                log_peer((.error_number = ENOMEM), LOG_WARNING, "Cannot take a connection: %m");
}

static int on_listener(sd_event_source *source, int listen_fd, uint32_t events, void *userdata) {
        Listener *listener = userdata;

        for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
                SocketAddress from = {};
                socklen_t size = sizeof(from);
                int fd = accept4(listen_fd, &from.sa, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

                if (fd >= 0)
                        take_connection(listener, fd, &from);
                else if (errno == EAGAIN)
                        break;
                else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                        pause_listening(listener->server, errno);
                        break;
                }
                /* Any other error is that of the new connection, which is gone (accept(2)). */
        }
        return 0;
}

/* --- the server --- */

int web_server_new(WebServer **ret, WebLoop *loop, sd_event *event, const WebLimits *limits,
        const char *ws_path, const WebHandlers *handlers, void *userdata) {
        _cleanup_(web_server_freep) WebServer *server = new0(WebServer, 1);
        int r;

        if (!server)
                return -ENOMEM;
        server->loop = loop;
        server->event = sd_event_ref(event);
        server->handlers = *handlers;
        server->userdata = userdata;
        budget_init(&server->budget, 0);
        TAILQ_INIT(&server->stalled);
        TAILQ_INIT(&server->closing);
        web_server_set_limits(server, limits);
        if (ws_path) {
                server->ws_path = strdup(ws_path);
                if (!server->ws_path)
                        return -ENOMEM;
                r = websocket_receive_init(loop);
                if (r >= 0)
                        r = lws_wire_prepare(loop);
                if (r < 0)
                        return r;
        }
        r = sd_event_add_time(event, &server->rearm, CLOCK_BOOTTIME, UINT64_MAX, 0, on_rearm, server);
        if (r < 0)
                return r;
        r = sd_event_add_time(event, &server->deadline_timer, CLOCK_BOOTTIME, UINT64_MAX, 0,
                websocket_on_deadline, server);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(server);
        return 0;
}

WebServer *web_server_free(WebServer *server) {
        HttpRequest *request;
        WebSocket *socket;

        if (!server)
                return NULL;
        server->drained = NULL;
        web_server_stop_accepting(server);
        while ((request = LIST_FIRST(&server->requests)))
                http_connection_free(request);
        while ((socket = LIST_FIRST(&server->sockets)))
                websocket_abandon(socket);
        tls_context_unref(server->tls);
        sd_event_source_disable_unref(server->rearm);
        sd_event_source_disable_unref(server->deadline_timer);
        sd_event_unref(server->event);
        free(server->ws_path);
        return mfree(server);
}

static int add_listener(WebServer *server, int listen_fd, bool tls) {
        _cleanup_free_ Listener *listener = new0(Listener, 1);
        _cleanup_close_ int fd = listen_fd;
        int r;

        if (!listener)
                return -ENOMEM;
        listener->server = server;
        listener->tls = tls;
        r = sd_event_add_io(server->event, &listener->source, fd, EPOLLIN, on_listener, listener);
        if (r < 0)
                return r;
        listener->fd = TAKE_FD(fd);
        SLIST_INSERT_HEAD(&server->listeners, listener, entry);
        TAKE_PTR(listener);
        return 0;
}

int web_server_listen(WebServer *server, int listen_fd) {
        return add_listener(server, listen_fd, false);
}

int web_server_listen_tls(WebServer *server, int listen_fd) {
        return add_listener(server, listen_fd, true);
}

void web_server_set_tls(WebServer *server, TlsContext *tls) {
        tls_context_unref(server->tls);
        server->tls = tls_context_ref(tls);
}

bool web_server_has_tls(const WebServer *server) {
        return server->tls;
}

void web_server_stop_accepting(WebServer *server) {
        Listener *listener;

        while ((listener = SLIST_FIRST(&server->listeners))) {
                SLIST_REMOVE_HEAD(&server->listeners, entry);
                sd_event_source_disable_unref(listener->source);
                safe_close(listener->fd);
                free(listener);
        }
}

void web_server_check_drained(WebServer *server) {
        void (*drained)(void *userdata) = server->drained;

        if (!drained || !LIST_EMPTY(&server->requests))
                return;
        server->drained = NULL;
        drained(server->drained_userdata);
}

void web_server_drain(WebServer *server, void (*drained)(void *userdata), void *userdata) {
        HttpRequest *request;

        web_server_stop_accepting(server);
        server->draining = true;
        server->drained = drained;
        server->drained_userdata = userdata;
        for (request = LIST_FIRST(&server->requests); request; request = http_connection_next(request))
                http_connection_drain(request);
        web_server_check_drained(server);
}

void web_server_set_limits(WebServer *server, const WebLimits *limits) {
        server->limits = *limits;
        server->limits.max_headers = MIN(limits->max_headers, (size_t) HTTP_HEAD_MAX);
        server->budget.limit = limits->max_pending;
}

unsigned web_server_n_connections(const WebServer *server) {
        return server->n_connections;
}

void web_server_get_statistics(const WebServer *server, WebStatistics *ret) {
        *ret = (WebStatistics){
                .pending = server->budget.used,
                .n_evicted = server->budget.n_evicted,
        };
}
