/* SPDX-License-Identifier: Apache-2.0 */
#include "service/dispatcher.h"

#include "proto/json.h"
#include "schema-tables.h"
#include "service/peers.h"
#include "service/runs.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* One request may make at most this much memory: far more than any rule lets through, far less than would
 * hurt. */
#define CALL_ARENA_LIMIT (16U << 20)

/* A fiber takes two or three pages of its stack, so a thousand that wait are some 12 MB; what waits for a stack
 * takes its request only. */
static const FiberPoolConfig fiber_config = {
        .max_fibers = 1024,
        .n_internal = 128,
        .max_queued = 8192,
        .max_queued_per_key = 256,
};

typedef LIST_HEAD(CallList, Call) CallList;

struct Dispatcher {
        sd_event *event;
        Routes *routes;
        const MethodBinding *bindings;
        void *role;
        uint64_t timeout_usec;
        FiberPool *fibers;
        CallList underway; /* those that can be cancelled */
        Runs runs; /* of the calls of our own methods */
        Peers peers;
        RpcServer *server;
        int (*identify)(const RpcIdentity *identity, Role *ret, void *userdata);
        void (*peer_gone)(RpcConnection *peer, void *role);
        bool stopped;
};

int dispatcher_new(Dispatcher **ret, sd_event *event, Routes *routes, const MethodBinding *bindings,
        uint64_t timeout_usec) {
        _cleanup_(dispatcher_freep) Dispatcher *dispatcher = new0(Dispatcher, 1);
        if (!dispatcher)
                return -ENOMEM;
        *dispatcher = (Dispatcher){
                .event = sd_event_ref(event),
                .routes = routes,
                .bindings = bindings,
                .timeout_usec = timeout_usec,
        };
        LIST_INIT(&dispatcher->underway);
        runs_init(&dispatcher->runs);
        peers_init(&dispatcher->peers, event, timeout_usec);
        int r = fiber_pool_new(&dispatcher->fibers, event, &fiber_config);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(dispatcher);
        return 0;
}

void dispatcher_set_identity(
        Dispatcher *dispatcher, Role self, int (*identify)(const RpcIdentity *, Role *, void *)) {
        dispatcher->peers.role = self;
        dispatcher->identify = identify;
}

void dispatcher_set_role(Dispatcher *dispatcher, void *role) {
        dispatcher->role = role;
}

Dispatcher *dispatcher_free(Dispatcher *dispatcher) {
        if (!dispatcher)
                return NULL;
        dispatcher_stop_serving(dispatcher);
        peers_done(&dispatcher->peers);
        fiber_pool_free(dispatcher->fibers);
        runs_done(&dispatcher->runs);
        sd_event_unref(dispatcher->event);
        free(dispatcher);
        return NULL;
}

FiberPool *dispatcher_fibers(Dispatcher *dispatcher) {
        return dispatcher->fibers;
}

size_t dispatcher_statistics(const Dispatcher *dispatcher, BusStatistic *ret, size_t max) {
        FiberPoolStatistics figures;

        fiber_pool_get_statistics(dispatcher->fibers, &figures);
        const BusStatistic statistics[] = {
                {"fibers_running", figures.n_running},
                {"fibers_queued", figures.n_queued},
                {"fiber_stacks", figures.n_stacks},
                {"fibers_started", figures.n_started},
                {"fibers_refused", figures.n_refused},
                {"fibers_cancelled", figures.n_cancelled},
        };
        size_t n = MIN(max, ELEMENTSOF(statistics));
        memcpy(ret, statistics, n * sizeof(BusStatistic));
        return n;
}

static const MethodBinding *find_binding(const Dispatcher *dispatcher, const MethodInfo *method) {
        for (const MethodBinding *b = dispatcher->bindings; b && b->method; b++)
                if (b->method == method)
                        return b;
        return NULL;
}

/* --- calls that can be cancelled --- */

static void set_underway(Dispatcher *dispatcher, Call *call, void (*cancel)(Call *call, int r)) {
        call->cancel = cancel;
        LIST_INSERT_HEAD(&dispatcher->underway, call, underway);
}

static void unset_underway(Call *call) {
        call->cancel = NULL;
        LIST_REMOVE(call, underway);
}

/* --- to another role --- */

static void on_remote_reply(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        Call *call = userdata;
        ProtobufCMessage *response;

        unset_underway(call);
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

static void cancel_forwarded(Call *call, int r) {
        rpc_client_forget(call->peer, call->peer_request);
        unset_underway(call);
        call_fail_errno(call, r, "wait for the other role");
}

/* What picks the shard: a conversation or a user. NULL: any will do, or there is no caller to go by. `direct`
 * is room for an id. */
static const char *shard_key(const Call *call, char direct[static UUID_TEXT_SIZE]) {
        const MethodInfo *method = call->method;
        const char *value = NULL, *user = isempty(call->caller.user) ? NULL : call->caller.user;

        if (call->intent.source)
                return call->intent.target;
        if (method->scope_field >= 0)
                value = *(char *const *) ((const char *) call->request +
                                          call->request->descriptor->fields[method->scope_field].offset);
        switch (method->scope_kind) {
        case SCOPE_ANY:
                return NULL;
        case SCOPE_USER:
                return user;
        case SCOPE_CONVERSATION:
        case SCOPE_USER_OF:
                return value;
        case SCOPE_DIRECT:
                if (!user)
                        return NULL;
                uuid_of_direct(user, value, direct);
                return direct;
        }
        return NULL;
}

static int send_to_peer(Dispatcher *dispatcher, Call *call, uint64_t timeout_usec) {
        Sc__Envelope__Delivery intent = SC__ENVELOPE__DELIVERY__INIT;
        char direct[UUID_TEXT_SIZE];

        int r = peers_get(&dispatcher->peers,
                routes_address(dispatcher->routes, call->method->role, shard_key(call, direct)),
                &call->peer);
        if (r < 0)
                return r;
        size_t size = protobuf_c_message_get_packed_size(call->request);
        _cleanup_free_ uint8_t *payload = malloc(size ?: 1);
        if (!payload)
                return -ENOMEM;
        protobuf_c_message_pack(call->request, payload);
        if (call->intent.source) {
                intent.source = (char *) call->intent.source;
                intent.number = call->intent.number;
                intent.target = (char *) call->intent.target;
        }
        return rpc_client_start(call->peer, call->method,
                &(RpcMessage){
                        .method = call->method->name,
                        .trace = &call->trace,
                        .caller = *call->caller.user ? &call->caller : NULL,
                        .intent = call->intent.source ? &intent : NULL,
                        .timeout_usec = timeout_usec,
                        .order = call->order,
                        .payload = payload,
                        .payload_size = size,
                },
                on_remote_reply, call, &call->peer_request);
}

static void forward(Dispatcher *dispatcher, Call *call) {
        uint64_t left = 0, now;

        if (call->deadline_usec > 0) {
                now = boottime_usec();
                if (now >= call->deadline_usec) {
                        call_fail_errno(call, -ETIMEDOUT, "reach the role in time");
                        return;
                }
                left = call->deadline_usec - now;
        }
        int r = send_to_peer(dispatcher, call, left);
        if (r < 0)
                call_fail_errno(call, r, "send the request");
        else
                set_underway(dispatcher, call, cancel_forwarded);
}

/* --- on a fiber --- */

static void run_call(void *userdata) {
        Call *call = userdata;
        ProtobufCMessage *response = arena_new_message(&call->arena, call->method->response->descriptor);
        int r = response ? call->handler(call, call->request, response) : -ENOMEM;

        unset_underway(call);
        call->fiber = NULL;
        call_end(call, r, response);
}

static void on_cancelled_unstarted(int r, void *userdata) {
        Call *call = userdata;

        unset_underway(call);
        call->fiber = NULL;
        call_end(call, r, NULL);
}

static void cancel_on_fiber(Call *call, int r) {
        fiber_cancel(call->fiber, r);
}

static void run_on_fiber(Dispatcher *dispatcher, Call *call) {
        const MethodInfo *method = call->method;

        if (call->deadline_usec == 0 && dispatcher->timeout_usec > 0)
                call->deadline_usec = boottime_usec() + dispatcher->timeout_usec;
        set_underway(dispatcher, call, cancel_on_fiber);
        int r = fiber_start(dispatcher->fibers,
                &(FiberStart){
                        .main = run_call,
                        .cancelled = on_cancelled_unstarted,
                        .userdata = call,
                        .key = isempty(call->caller.user) ? call->address : call->caller.user,
                        .internal = method->access == ACCESS_INTERNAL,
                        .deadline_usec = call->deadline_usec,
                        .trace = &call->trace,
                },
                &call->fiber);
        if (r < 0) {
                unset_underway(call);
                call_fail_errno(call, r, "start");
        }
}

/* --- dispatching --- */

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

/* False after failing it, like one before it. */
static bool join_run(Dispatcher *dispatcher, Call *call) {
        Sc__ErrorCode code = runs_check(&dispatcher->runs, call->order);

        call->runs = &dispatcher->runs;
        if (code == ERROR_NONE)
                return true;
        call_fail(call, code, "%s", "one before it failed");
        return false;
}

void dispatcher_dispatch(Dispatcher *dispatcher, Call *call) {
        const MethodBinding *binding = find_binding(dispatcher, call->method);
        JsonError error = {};

        call->dispatcher = dispatcher;
        if (binding && call->order > 0 && !join_run(dispatcher, call))
                return;
        if (dispatcher->stopped) {
                call_fail(call, ERROR_UNAVAILABLE, "%s", "the server is stopping");
                return;
        }
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
        call->handler = binding->handler;
        if (binding->hot_handler)
                binding->hot_handler(call, call->request);
        else
                run_on_fiber(dispatcher, call);
}

int dispatcher_call_new(Call **ret, const MethodInfo *method, const void *request, size_t size,
        const Trace *trace, CallDone done, void *userdata) {
        _cleanup_(call_freep) Call *call = call_new(method, CALL_ARENA_LIMIT, done, userdata);
        if (!call)
                return -ENOMEM;
        int r = arena_unpack(&call->arena, method->request->descriptor, request, size, &call->request);
        if (r < 0)
                return r;
        call->internal = true;
        if (trace)
                call->trace = *trace;
        else
                trace_new(&call->trace);
        *ret = TAKE_PTR(call);
        return 0;
}

int dispatcher_call(Dispatcher *dispatcher, const MethodInfo *method, const ProtobufCMessage *request,
        const Trace *trace, const Sc__Caller *caller, CallDone done, void *userdata) {
        _cleanup_(call_freep) Call *call = NULL;
        size_t size = protobuf_c_message_get_packed_size(request);
        _cleanup_free_ uint8_t *packed = malloc(size ?: 1);
        if (!packed)
                return -ENOMEM;
        protobuf_c_message_pack(request, packed);
        int r = dispatcher_call_new(&call, method, packed, size, trace, done, userdata);
        if (r < 0)
                return r;
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

static int copy_intent(Call *call, const Sc__Envelope__Delivery *intent) {
        if (!intent || isempty(intent->source))
                return 0;
        call->intent.source = arena_strdup(&call->arena, intent->source);
        call->intent.number = intent->number;
        call->intent.target = arena_strdup(&call->arena, intent->target);
        return call->intent.source && call->intent.target ? 0 : -ENOMEM;
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
        r = copy_intent(call, message->intent);
        if (r < 0)
                return r;
        if (message->trace)
                call->trace = *message->trace;
        if (!method->hot && message->timeout_usec > 0)
                call->deadline_usec = boottime_usec() + message->timeout_usec;
        call->order = message->order;
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
        if (r == -ENOMEM) {
                runs_break(&dispatcher->runs, message->order, ERROR_OVERLOADED);
                rpc_request_fail(request, ERROR_OVERLOADED, "the request needs too much memory");
        } else if (r < 0)
                rpc_request_fail(request, ERROR_INVALID_ARGUMENT, "the request is malformed");
}

/* The requests' connection stays until they are answered, so no other has its address meanwhile. */
static void cancel_calls_of(Dispatcher *dispatcher, const RpcConnection *connection) {
        CallList theirs = LIST_HEAD_INITIALIZER(theirs);
        Call *call, *next;

        for (call = LIST_FIRST(&dispatcher->underway); call; call = next) {
                next = LIST_NEXT(call, underway);
                if (call->origin != connection)
                        continue;
                LIST_REMOVE(call, underway);
                LIST_INSERT_HEAD(&theirs, call, underway);
        }
        while ((call = LIST_FIRST(&theirs))) {
                LIST_REMOVE(call, underway);
                LIST_INSERT_HEAD(&dispatcher->underway, call, underway);
                call_cancel(call);
        }
}

static void on_disconnect(RpcConnection *connection, void *userdata) {
        Dispatcher *dispatcher = userdata;

        cancel_calls_of(dispatcher, connection);
        if (dispatcher->peer_gone)
                dispatcher->peer_gone(connection, dispatcher->role);
}

int dispatcher_serve(
        Dispatcher *dispatcher, int listen_fd, void (*peer_gone)(RpcConnection *peer, void *role)) {
        const RpcServerHandlers handlers = {
                .identify = dispatcher->identify,
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

void dispatcher_stop_calls(Dispatcher *dispatcher) {
        dispatcher->stopped = true;
        fiber_pool_cancel_all(dispatcher->fibers);
}

void dispatcher_stop_serving(Dispatcher *dispatcher) {
        dispatcher_stop_calls(dispatcher);
        dispatcher->server = rpc_server_free(dispatcher->server);
}
