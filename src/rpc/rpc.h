/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The internal RPC: framed protobuf (proto/stonechat/v1/internal.proto, Envelope) over a stream socket: AF_UNIX
 * between the roles of one host, TCP with TLS between hosts.
 *
 * A frame is four bytes of length, big-endian, then a packed Envelope of at most RPC_MAX_FRAME bytes. A
 * frame that is too long, malformed or out of place ends the connection. The first frame each way is a HELLO: the
 * versions that the peer understands, and which role it is.
 *
 * Requests on one connection may be answered in any order. What waits to be sent is in two lanes (rpc/lanes.h):
 * pushes, small answers, and the answers that keep their place among the pushes leave in the order they were given;
 * large answers leave behind them, in their own order. Everything is asynchronous on one sd-event loop.
 *
 * A peer that is silent is pinged, and a dead one disconnected. A peer that is slow is waited for as long as it
 * reads at all: requests that do not fit wait with their caller's side, or are refused there; a server begins no
 * large call for a connection that has much to read already (rpc_connection_is_congested()), and reads no more
 * requests while those it has taken are too many bytes. */

#include <systemd/sd-event.h>

#include "log/trace.h"
#include "proto/schema.h"
#include "stonechat/v1/internal.pb-c.h"
#include "transport/transport.h"

#define RPC_MAX_FRAME (4U << 20)
/* Of a request: leaves room for method, trace and caller. */
#define RPC_MAX_PAYLOAD (RPC_MAX_FRAME - 4096U)
/* Bytes waiting in one direction of one connection. A peer reads so much in far less than RPC_DEAD_USEC, so beyond it
 * it is lost. */
#define RPC_MAX_QUEUE (256U << 20)
/* Bytes of requests that a client keeps to send (again), and those of them that it queues at a time: what is not
 * queued can still be taken back. */
#define RPC_MAX_KEPT (64U << 20)
#define RPC_SEND_WINDOW (1U << 20)
/* Requests unanswered on one connection, and bytes of them: a server reads no more while they are so many. */
#define RPC_MAX_PENDING 65536U
#define RPC_MAX_PENDING_SIZE (32U << 20)
/* An answer beyond this is a large one, and waits in the other lane. */
#define RPC_LARGE_ANSWER (16U << 10)
/* With more bytes of large answers waiting a connection is congested. */
#define RPC_CONGESTED (1U << 20)
/* Peers of one server: roles, jobs and gateways of one host, so far more than there are; and of one user. */
#define RPC_MAX_CONNECTIONS 1024U
#define RPC_MAX_CONNECTIONS_OF_USER 256U
/* A peer that says nothing for so long is sent a PING; that says or reads nothing for so long is dead. */
#define RPC_PING_USEC (UINT64_C(5) * 1000 * 1000)
#define RPC_DEAD_USEC (UINT64_C(15) * 1000 * 1000)

/* One frame, unpacked or to be packed: borrowed memory, valid during the call it is passed to. */
typedef struct RpcMessage {
        const char *method;
        const Trace *trace; /* NULL: none */
        const Sc__Caller *caller; /* NULL: the role itself */
        const Sc__Envelope__Delivery *intent; /* the request delivers it; NULL: none */
        uint64_t timeout_usec; /* of a request; 0: the default */
        uint64_t order; /* of a request: those with the same number keep their order; 0: none */
        const void *payload;
        size_t payload_size;
} RpcMessage;

/* --- server side: connections accepted on an activated listening socket --- */

typedef struct RpcServer RpcServer;
typedef struct RpcConnection RpcConnection; /* a peer that is connected; reference-counted */
typedef struct RpcRequest RpcRequest; /* a request to be answered, exactly once; owned by whoever got it */

/* What the kernel or TLS says of a peer: the user id on an AF_UNIX socket, else the name in its certificate. */
typedef struct RpcIdentity {
        uid_t uid; /* (uid_t) -1: not known */
        const char *certificate_name; /* NULL: none */
} RpcIdentity;

typedef struct RpcServerHandlers {
        /* Who is this? 0 and its role, ROLE_NONE for a peer that may be whatever role it names; or a negative
         * errno: it is disconnected. NULL: our own user id and root may be any role, and so may whoever has
         * a certificate of ours. */
        int (*identify)(const RpcIdentity *identity, Role *ret, void *userdata);
        /* Takes the request; answers now or later by rpc_request_reply() or rpc_request_fail(). */
        void (*on_request)(RpcRequest *request, const RpcMessage *message, void *userdata);
        /* Nobody waits for the answer any more: the peer says so, or has gone. It is still to be answered, now
         * or later. Optional. */
        void (*on_cancel)(RpcRequest *request, void *userdata);
        /* A connection that was congested is so no more. Optional. */
        void (*on_room)(RpcConnection *connection, void *userdata);
        /* The peer is gone, and on_cancel() was called for its requests; forget every pointer to it. */
        void (*on_disconnect)(RpcConnection *connection, void *userdata);
} RpcServerHandlers;

/* Takes the fd, of an AF_UNIX or a TCP socket. `self`: the role that we are. */
int rpc_server_new(RpcServer **ret, sd_event *event, int listen_fd, Role self,
        const RpcServerHandlers *handlers, void *userdata);
/* Connections from now on are under TLS, and with these certificates; NULL: plain. */
void rpc_server_set_tls(RpcServer *server, TlsContext *tls);
/* Disconnects every peer, after sending what the kernel takes at once; on_disconnect is not called for
 * them. */
RpcServer *rpc_server_free(RpcServer *server);
DEFINE_CLEANUP(RpcServer *, rpc_server_free);
unsigned rpc_server_n_connections(const RpcServer *server);
/* Stops accepting; connections go on. */
void rpc_server_stop_accepting(RpcServer *server);
/* For an orderly end: stops accepting and reading. What comes from now on the peers send again to whoever
 * serves next; answers and pushes still go out. `drained` is called once, when all requests taken so far are
 * answered: at once, or from the function that answers the last. */
void rpc_server_drain(RpcServer *server, void (*drained)(void *userdata), void *userdata);

RpcConnection *rpc_request_connection(const RpcRequest *request);
/* A pointer of its owner's, NULL at first. */
void rpc_request_set_userdata(RpcRequest *request, void *userdata);
void *rpc_request_userdata(const RpcRequest *request);
/* Its answer keeps its place among the pushes, be it large. */
void rpc_request_keep_order(RpcRequest *request);
/* Both free the request. The payload is copied; one that does not fit a frame is answered with
 * ERROR_INTERNAL. */
void rpc_request_reply(RpcRequest *request, const void *payload, size_t size);
void rpc_request_fail(RpcRequest *request, Sc__ErrorCode code, const char *detail);

/* Which role the peer is, known before its first request: as identify() said, or as it calls itself. ROLE_NONE: one
 * that we do not know. */
Role rpc_connection_role(const RpcConnection *connection);
/* Has it more than RPC_CONGESTED bytes of large answers to read? Then on_room() tells when no more. */
bool rpc_connection_is_congested(RpcConnection *connection);
RpcConnection *rpc_connection_ref(RpcConnection *connection);
RpcConnection *rpc_connection_unref(RpcConnection *connection);
/* -ENOTCONN when it is gone, -ENOBUFS at RPC_MAX_QUEUE (it is being disconnected then, from the loop),
 * -EMSGSIZE, -ENOMEM. */
int rpc_connection_push(
        RpcConnection *connection, const char *method, const Trace *trace, const void *payload, size_t size);

/* --- client side: one address, connected as needed, reconnected for ever --- */

typedef struct RpcClient RpcClient;

/* code is ERROR_NONE and payload the response, or payload is NULL and detail (may be empty) says more.
 * Called exactly once for every call, never from within rpc_client_call(). */
typedef void (*RpcReply)(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata);

typedef struct RpcClientHandlers {
        /* Optional. */
        void (*on_push)(const RpcMessage *message, void *userdata);
        /* The connection stands (again), and the peer has said HELLO: whoever keeps state at the peer sets it up
         * anew now. Calls made here are sent before those that wait. */
        void (*on_connect)(void *userdata);
        void (*on_disconnect)(void *userdata);
} RpcClientHandlers;

typedef struct RpcClientConfig {
        const char *address; /* the path of an AF_UNIX socket, or HOST:PORT ([HOST]:PORT for IPv6) */
        TlsContext *tls; /* for HOST:PORT; NULL: plain */
        uint64_t timeout_usec; /* of a request that says none */
        Role role; /* which one we are */
} RpcClientConfig;

/* Copies what is in `config`. Connects at the first call, or at once when there is an
 * on_connect; retries after 20 ms, doubling up to 1 s, with jitter. A host's name is resolved in a thread. */
int rpc_client_new(RpcClient **ret, sd_event *event, const RpcClientConfig *config,
        const RpcClientHandlers *handlers, void *userdata);
/* Fails what is outstanding with ERROR_UNAVAILABLE, calling the replies. May be called from any of the
 * client's callbacks. */
RpcClient *rpc_client_free(RpcClient *client);
DEFINE_CLEANUP(RpcClient *, rpc_client_free);
bool rpc_client_is_connected(const RpcClient *client);

/* Sends a request. While there is no connection, or RPC_SEND_WINDOW bytes are on their way, it waits, up to its
 * timeout (then ERROR_UNAVAILABLE: it was never sent). Requests are sent, and sent again, in the order of the
 * calls. A request that was sent when the connection broke is sent again on the next one, with the time that is
 * left, if its method is idempotent, and otherwise fails with ERROR_UNAVAILABLE. No answer in time:
 * ERROR_TIMEOUT. -ENOBUFS when RPC_MAX_PENDING requests or RPC_MAX_KEPT bytes are outstanding, -EMSGSIZE for a
 * payload above RPC_MAX_PAYLOAD, -ENOMEM. */
int rpc_client_call(RpcClient *client, const MethodInfo *method, const RpcMessage *message, RpcReply reply,
        void *userdata);
/* The same; *ret names the request for rpc_client_forget(), until its reply is called. */
int rpc_client_start(RpcClient *client, const MethodInfo *method, const RpcMessage *message, RpcReply reply,
        void *userdata, uint64_t *ret);
/* Nobody waits for the answer any more: the reply is not called. What was not sent is not sent; of what was sent the
 * peer is told, and may do it all the same. */
void rpc_client_forget(RpcClient *client, uint64_t id);
/* Takes back a request that is to be sent elsewhere: true, and the reply is not called. False: it was sent and must
 * not be sent twice, or is answered. */
bool rpc_client_withdraw(RpcClient *client, uint64_t id);
/* For connections from now on. */
void rpc_client_set_tls(RpcClient *client, TlsContext *tls);
