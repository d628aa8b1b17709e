/* SPDX-License-Identifier: Apache-2.0 */
#include "service/dispatcher.h"

#include <uthash.h>

#include "proto/json.h"
#include "schema-tables.h"
#include "util/id.h"
#include "util/string-util.h"

/* One request may make at most this much memory: far more than any rule lets through, far less than would
 * hurt. */
#define CALL_ARENA_LIMIT (16U << 20)

typedef struct Peer {
        char *address; /* the key */
        RpcClient *client;
        UT_hash_handle hh;
} Peer;

struct Dispatcher {
        sd_event *event;
        Routes *routes;
        const MethodBinding *bindings;
        void *role;
        uint64_t timeout_usec;
        Peer *peers; /* by address */
        RpcServer *server;
        void (*peer_gone)(RpcConnection *peer, void *role);
};

int dispatcher_new(Dispatcher **ret, sd_event *event, Routes *routes, const MethodBinding *bindings,
        uint64_t timeout_usec) {
        Dispatcher *dispatcher = new0(Dispatcher, 1);
        if (!dispatcher)
                return -ENOMEM;
        *dispatcher = (Dispatcher){
                .event = sd_event_ref(event),
                .routes = routes,
                .bindings = bindings,
                .timeout_usec = timeout_usec,
        };
        *ret = dispatcher;
        return 0;
}

void dispatcher_set_role(Dispatcher *dispatcher, void *role) {
        dispatcher->role = role;
}

Dispatcher *dispatcher_free(Dispatcher *dispatcher) {
        Peer *peer, *next;

        if (!dispatcher)
                return NULL;
        rpc_server_free(dispatcher->server);
        HASH_ITER(hh, dispatcher->peers, peer, next) {
                HASH_DEL(dispatcher->peers, peer);
                rpc_client_free(peer->client);
                free(peer->address);
                free(peer);
        }
        sd_event_unref(dispatcher->event);
        free(dispatcher);
        return NULL;
}

static int find_peer(Dispatcher *dispatcher, const char *address, RpcClient **ret) {
        Peer *peer;

        HASH_FIND_STR(dispatcher->peers, address, peer);
        if (!peer) {
                _cleanup_free_ Peer *new_peer = new0(Peer, 1);
                _cleanup_free_ char *copy = strdup(address);
                if (!new_peer || !copy)
                        return -ENOMEM;
                int r = rpc_client_new(
                        &new_peer->client, dispatcher->event, address, dispatcher->timeout_usec, NULL, NULL);
                if (r < 0)
                        return r;
                peer = TAKE_PTR(new_peer);
                peer->address = TAKE_PTR(copy);
                HASH_ADD_KEYPTR(hh, dispatcher->peers, peer->address, strlen(peer->address), peer);
        }
        *ret = peer->client;
        return 0;
}

static const MethodBinding *find_binding(const Dispatcher *dispatcher, const MethodInfo *method) {
        for (const MethodBinding *b = dispatcher->bindings; b && b->method; b++)
                if (b->method == method)
                        return b;
        return NULL;
}

static void on_remote_reply(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        Call *call = userdata;
        ProtobufCMessage *response;

        if (code != ERROR_NONE) {
                call_fail(call, code, "%s", strempty(detail));
                return;
        }
        int r = arena_unpack(&call->arena, call->method->response->descriptor, payload, size, &response);
        if (r < 0)
                call_fail_errno(call, r, "read the other role's answer");
        else
                call_return(call, response);
}

static const char *shard_value(const Call *call) {
        if (call->method->shard_field < 0)
                return NULL;
        const ProtobufCFieldDescriptor *field =
                &call->request->descriptor->fields[call->method->shard_field];
        return *(char *const *) ((const char *) call->request + field->offset);
}

static void forward(Dispatcher *dispatcher, Call *call) {
        RpcClient *client;

        int r = find_peer(dispatcher,
                routes_address(dispatcher->routes, call->method->role, shard_value(call)), &client);
        if (r < 0) {
                call_fail_errno(call, r, "reach the role");
                return;
        }
        size_t size = protobuf_c_message_get_packed_size(call->request);
        _cleanup_free_ uint8_t *payload = malloc(size ?: 1);
        if (!payload) {
                call_fail_errno(call, -ENOMEM, "pack the request");
                return;
        }
        protobuf_c_message_pack(call->request, payload);
        r = rpc_client_call(client, call->method,
                &(RpcMessage){
                        .method = call->method->name,
                        .trace = &call->trace,
                        .caller = *call->caller.user ? &call->caller : NULL,
                        .payload = payload,
                        .payload_size = size,
                },
                on_remote_reply, call);
        if (r < 0)
                call_fail_errno(call, r, "send the request");
}

static bool may_call(const Call *call) {
        switch (call->method->access) {
        case ACCESS_PUBLIC:
                return true;
        case ACCESS_USER:
                return call->internal || !isempty(call->caller.user);
        case ACCESS_INTERNAL:
                return call->internal;
        }
        return false;
}

/* Whatever resends the request from here on (the RPC, when a role restarts) resends the same id. */
static int make_ids(Call *call) {
        const MessageInfo *info = call->method->request;

        for (unsigned i = 0; i < info->descriptor->n_fields; i++) {
                char **value = (char **) ((char *) call->request + info->descriptor->fields[i].offset);

                if (!info->fields[i].make_id || !isempty(*value))
                        continue;
                *value = arena_alloc(&call->arena, UUID_TEXT_SIZE);
                if (!*value) {
                        *value = (char *) "";
                        return -ENOMEM;
                }
                uuid_v7(*value);
        }
        return 0;
}

void dispatcher_dispatch(Dispatcher *dispatcher, Call *call) {
        const MethodBinding *binding = find_binding(dispatcher, call->method);
        JsonError error = {};

        if (!may_call(call)) {
                call_fail(call,
                        call->method->access == ACCESS_INTERNAL ? ERROR_METHOD_NOT_FOUND
                                                                : ERROR_UNAUTHENTICATED,
                        "%s", call->method->name);
                return;
        }
        if (make_ids(call) < 0) {
                call_fail_errno(call, -ENOMEM, "make an id");
                return;
        }
        /* The rules are checked where the handler runs, whichever way the request came. */
        if (!binding) {
                forward(dispatcher, call);
                return;
        }
        if (message_check(call->method->request, call->request, &error) < 0) {
                call_fail(call, error.code, "%s", error.detail);
                return;
        }
        call->role = dispatcher->role;
        binding->handler(call, call->request);
}

int dispatcher_call(Dispatcher *dispatcher, const MethodInfo *method, const ProtobufCMessage *request,
        const Trace *trace, const Sc__Caller *caller, CallDone done, void *userdata) {
        size_t size = protobuf_c_message_get_packed_size(request);
        _cleanup_free_ uint8_t *packed = malloc(size ?: 1);
        _cleanup_(call_freep) Call *call = call_new(method, CALL_ARENA_LIMIT, done, userdata);
        if (!packed || !call)
                return -ENOMEM;
        protobuf_c_message_pack(request, packed);
        int r = arena_unpack(&call->arena, request->descriptor, packed, size, &call->request);
        if (r < 0)
                return r;
        call->internal = true;
        if (trace)
                call->trace = *trace;
        else
                trace_new(&call->trace);
        r = call_set_caller(call, caller);
        if (r < 0)
                return r;
        dispatcher_dispatch(dispatcher, TAKE_PTR(call));
        return 0;
}

/* --- our methods for the other roles --- */

static void on_served(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        RpcRequest *request = userdata;

        if (code != ERROR_NONE) {
                rpc_request_fail(request, code, detail);
                return;
        }
        size_t size = protobuf_c_message_get_packed_size(response);
        _cleanup_free_ uint8_t *payload = malloc(size ?: 1);
        if (!payload) {
                rpc_request_fail(request, ERROR_OVERLOADED, "");
                return;
        }
        protobuf_c_message_pack(response, payload);
        rpc_request_reply(request, payload, size);
}

static int serve_request(
        Dispatcher *dispatcher, const MethodInfo *method, RpcRequest *request, const RpcMessage *message) {
        _cleanup_(call_freep) Call *call = call_new(method, CALL_ARENA_LIMIT, on_served, request);
        if (!call)
                return -ENOMEM;
        int r = arena_unpack(&call->arena, method->request->descriptor, message->payload,
                message->payload_size, &call->request);
        if (r < 0)
                return r;
        r = call_set_caller(call, message->caller);
        if (r < 0)
                return r;
        if (message->trace)
                call->trace = *message->trace;
        /* Peers are roles of our own user id; they have checked what their clients may do. */
        call->internal = true;
        call->origin = rpc_request_connection(request);
        dispatcher_dispatch(dispatcher, TAKE_PTR(call));
        return 0;
}

static void on_request(RpcRequest *request, const RpcMessage *message, void *userdata) {
        Dispatcher *dispatcher = userdata;
        const MethodInfo *method = schema_find_method(message->method);

        if (!method || !find_binding(dispatcher, method)) {
                rpc_request_fail(request, ERROR_METHOD_NOT_FOUND, message->method);
                return;
        }
        int r = serve_request(dispatcher, method, request, message);
        if (r == -ENOMEM)
                rpc_request_fail(request, ERROR_OVERLOADED, "the request needs too much memory");
        else if (r < 0)
                rpc_request_fail(request, ERROR_INVALID_ARGUMENT, "the request is malformed");
}

static void on_disconnect(RpcConnection *connection, void *userdata) {
        Dispatcher *dispatcher = userdata;

        if (dispatcher->peer_gone)
                dispatcher->peer_gone(connection, dispatcher->role);
}

int dispatcher_serve(
        Dispatcher *dispatcher, int listen_fd, void (*peer_gone)(RpcConnection *peer, void *role)) {
        static const RpcServerHandlers handlers = {
                .on_request = on_request,
                .on_disconnect = on_disconnect,
        };
        dispatcher->peer_gone = peer_gone;
        return rpc_server_new(&dispatcher->server, dispatcher->event, listen_fd, &handlers, dispatcher);
}

void dispatcher_drain(Dispatcher *dispatcher, void (*drained)(void *userdata), void *userdata) {
        if (dispatcher->server)
                rpc_server_drain(dispatcher->server, drained, userdata);
        else
                drained(userdata);
}

void dispatcher_stop_serving(Dispatcher *dispatcher) {
        if (dispatcher)
                dispatcher->server = rpc_server_free(dispatcher->server);
}
