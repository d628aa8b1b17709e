/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/socket-role.h"

#include <inttypes.h>
#include <stdio.h>

#include "schema-tables.h"
#include "socket/channel/channel.h"
#include "socket/command/command.h"
#include "socket/connection/receive.h"
#include "socket/gateway/gateway.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define WEBSOCKET_PATH "/connection/websocket"
/* Messages that wait together share a frame of up to this size. A larger one would keep the client waiting
 * until it is complete. */
#define MAX_COALESCED (16U << 10)
/* A client that takes nothing of what waits for it is as good as gone. */
#define STALL_TIMEOUT_USEC (30 * USEC_PER_SEC)

/* --- what the web server calls --- */

static bool on_upgrade(const char *origin, const char *host, void *userdata) {
        SocketRole *role = userdata;

        if (origin_is_allowed(origin, host, role->conf->socket_allowed_origins))
                return true;
        log_peer((), LOG_NOTICE, "Refused a WebSocket of the origin %.128s; see AllowedOrigins=.", origin);
        return false;
}

static void on_open(WebSocket *socket, void *userdata) {
        SocketRole *role = userdata;
        Connection *connection;

        if (role->draining)
                return websocket_close(socket, DISCONNECT_SHUTDOWN.code, DISCONNECT_SHUTDOWN.reason);
        if (connection_new(&connection, role, socket) < 0)
                return websocket_close(socket, DISCONNECT_SERVER_ERROR.code, DISCONNECT_SERVER_ERROR.reason);
        websocket_set_userdata(socket, connection);
}

static void on_message(WebSocket *socket, const char *data, size_t size, bool binary, void *userdata) {
        Connection *connection = websocket_get_userdata(socket);

        if (connection)
                connection_receive(connection, data, size, binary);
}

static void on_drained(WebSocket *socket, void *userdata) {
        Connection *connection = websocket_get_userdata(socket);

        if (connection)
                connection_drained(connection);
}

static void on_close(WebSocket *socket, bool slow, void *userdata) {
        SocketRole *role = userdata;
        Connection *connection = websocket_get_userdata(socket);

        role->statistics.slow += slow;
        connection_free(connection);
        if (role->draining && role->n_connections == 0)
                role_process_stopped(role->process);
}

static void on_refused(Sc__ErrorCode code, Buffer *body, void *userdata) {
        const ErrorInfo *error = schema_error(code);
        char text[256];

        snprintf(text, sizeof(text), "{\"title\":\"%s\",\"status\":%u,\"code\":\"%s\"}", error->title,
                error->http, error->name);
        (void) buffer_append_string(body, text);
}

/* --- origins --- */

/* HOST[:PORT] of scheme://HOST[:PORT]; NULL if the origin has another form, such as "null". */
static const char *origin_host(const char *origin) {
        const char *separator = strstr(origin, "://");

        return separator && separator[3] ? separator + 3 : NULL;
}

bool origin_is_allowed(const char *origin, const char *host, const char *allowed) {
        if (!origin)
                return true;
        if (isempty(allowed)) {
                const char *from = origin_host(origin);
                return from && host && strcasecmp(from, host) == 0;
        }
        return conf_list_contains(allowed, "*") || conf_list_contains(allowed, origin);
}

/* --- the role --- */

static void on_closing(Connection *connection) {
        gateway_detach(connection->role->gateway, connection);
        subscriptions_free(connection);
        command_abandon(connection);
}

/* The commands first: their client waits for them. */
static void on_room(Connection *connection) {
        command_go_on(connection);
        connection_catch_up(connection);
}

static void web_limits(const SocketRole *role, WebLimits *ret) {
        const Conf *conf = role->conf;

        *ret = (WebLimits){
                .max_body = 0,
                .max_headers = 8192,
                .max_message = conf->socket_max_frame,
                .max_pending = conf->socket_pending_memory,
                /* Connections watch their queue themselves; this is a last bound. */
                .max_queue = 2 * conf->socket_max_queue + CONNECTION_MAX_REPLY,
                .max_coalesced = MAX_COALESCED,
                .stall_timeout_usec = STALL_TIMEOUT_USEC,
                .request_timeout_usec = conf->socket_handshake_timeout_usec,
                .max_connections = (unsigned) conf->socket_max_connections,
                .max_connections_per_address = (unsigned) conf->socket_max_connections_per_address,
        };
}

int socket_role_new(SocketRole **ret, RoleProcess *process, TokenVerifier *verifier) {
        static const Client__Reply ping = CLIENT__REPLY__INIT;
        static const ConnectionHandlers handlers = {
                .on_command = command_handle,
                .on_refused = command_refused,
                .on_closing = on_closing,
                .on_late = gateway_attach_late,
                .on_drained = on_room,
                .on_behind = connection_behind,
        };
        _cleanup_(socket_role_freep) SocketRole *role = new0(SocketRole, 1);

        if (!role) {
                token_verifier_free(verifier);
                return -ENOMEM;
        }
        role->process = process;
        role->conf = process->conf;
        role->token_verifier = verifier;
        role->handlers = &handlers;
        TAILQ_INIT(&role->connections);
        for (unsigned i = 0; i < N_CODECS; i++) {
                role->ping[i] = codec_encode((CodecKind) i, &ping);
                if (!role->ping[i])
                        return -ENOMEM;
        }
        int r = charges_new(&role->charges, role->conf);
        if (r < 0)
                return r;
        r = timer_wheel_init(&role->timer_wheel, process->event, connection_on_deadline);
        if (r < 0)
                return r;
        r = gateway_new(&role->gateway, role);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(role);
        return 0;
}

SocketRole *socket_role_free(SocketRole *role) {
        if (!role)
                return NULL;
        role->draining = false; /* the process ends already */
        web_server_free(role->server); /* with it all connections */
        gateway_free(role->gateway);
        timer_wheel_done(&role->timer_wheel);
        charges_free(role->charges);
        for (unsigned i = 0; i < N_CODECS; i++)
                bytes_unref(role->ping[i]);
        buffer_done(&role->batch_buffer);
        token_verifier_free(role->token_verifier);
        free(role);
        return NULL;
}

int socket_role_serve(SocketRole *role) {
        static const WebHandlers handlers = {
                .on_refused = on_refused,
                .on_upgrade = on_upgrade,
                .ws_protocol = "centrifuge-protobuf",
                .on_open = on_open,
                .on_message = on_message,
                .on_drained = on_drained,
                .on_close = on_close,
        };
        WebLimits limits;

        web_limits(role, &limits);
        return web_server_new(&role->server, role->process->web_loop, role->process->event, &limits,
                WEBSOCKET_PATH, &handlers, role);
}

bool socket_role_is_alive(const SocketRole *role) {
        return token_verifier_is_alive(role->token_verifier);
}

/* They come back with a new token, whatever their old one says of how long it is valid. */
static void end_connections_of_gone_keys(SocketRole *role) {
        const TokenKeys *keys = token_verifier_keys(role->token_verifier);
        Connection *next;

        for (Connection *c = TAILQ_FIRST(&role->connections); c; c = next) {
                next = TAILQ_NEXT(c, in_role);
                if (c->user && !token_keys_has_number(keys, c->token_key))
                        connection_disconnect(c, DISCONNECT_EXPIRED);
        }
}

void socket_role_reload(SocketRole *role) {
        WebLimits limits;

        web_limits(role, &limits);
        web_server_set_limits(role->server, &limits);
        int r = token_verifier_reload(role->token_verifier);
        if (r < 0)
                role_process_problem(role->process,
                        "The credential " TOKEN_PUBLIC_CREDENTIAL " is not taken: %s", strerror(-r));
        else
                end_connections_of_gone_keys(role);
}

void socket_role_drain(SocketRole *role) {
        Connection *next;

        role->draining = true;
        if (role->server)
                web_server_stop_accepting(role->server);
        for (Connection *c = TAILQ_FIRST(&role->connections); c; c = next) {
                next = TAILQ_NEXT(c, in_role);
                connection_disconnect(c, DISCONNECT_SHUTDOWN);
        }
        if (role->n_connections == 0)
                role_process_stopped(role->process);
}

const char *socket_role_status(SocketRole *role) {
        size_t n_connected, n_links = gateway_n_links(role->gateway, &n_connected);

        snprintf(role->status, sizeof(role->status),
                "%u connections of %u users, %u conversations; %zu of %zu group primaries reached",
                role->n_connections, HASH_COUNT(role->users), HASH_COUNT(role->channels), n_connected,
                n_links);
        return role->status;
}

size_t socket_role_statistics(SocketRole *role, BusStatistic *ret, size_t max) {
        const SocketStatistics *s = &role->statistics;
        WebStatistics web;
        web_server_get_statistics(role->server, &web);
        const BusStatistic all[] = {
                {"connections", role->n_connections},
                {"connections_signed_in", role->n_signed_in},
                {"pending_bytes", web.pending},
                {"pending_evicted", web.n_evicted},
                {"connections_total", s->connections_total},
                {"users", HASH_COUNT(role->users)},
                {"conversations", HASH_COUNT(role->channels)},
                {"commands_total", s->commands},
                {"refusals_total", s->refusals},
                {"deliveries_total", s->deliveries},
                {"slow_clients_total", s->slow},
                {"gaps_total", s->gaps},
                {"reattached_total", s->reattached},
                {"recovered_total", s->recovered},
        };
        size_t n = MIN(ELEMENTSOF(all), max);

        memcpy(ret, all, n * sizeof(*all));
        return n;
}
