/* SPDX-License-Identifier: Apache-2.0 */
#include "service/dispatcher.h"

#include "log/message-ids.h"
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

/* Large answers are what a link and memory can be filled with, so of each user few are made at a time, and no more
 * for a link that has much to carry; the others wait, and the users take turns. */
static const FiberPoolConfig large_config = {
        .max_fibers = 32,
        .max_queued = 8192,
        .max_queued_per_key = 256,
        .max_running_per_key = 2,
};

typedef TAILQ_HEAD(CallList, Call) CallList;

struct Dispatcher {
        sd_event *event;
        Routes *routes;
        const MethodBinding *bindings;
        void *role;
        uint64_t timeout_usec;
        FiberPool *fibers;
        FiberPool *large; /* for methods that are */
        CallList forwarded; /* to other roles, in the order of the calls */
        Runs runs; /* of the calls of our own methods */
        Peers peers;
        RpcServer *server;
        int (*identify)(const RpcIdentity *identity, Role *ret, void *userdata);
        void (*peer_gone)(RpcConnection *peer, void *role);
        bool stopped;
        uint64_t n_refused, n_dropped;
};

static void reroute(void *userdata);

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
        TAILQ_INIT(&dispatcher->forwarded);
        peers_init(&dispatcher->peers, event, timeout_usec, reroute, dispatcher);
        runs_init(&dispatcher->runs);
        int r = fiber_pool_new(&dispatcher->fibers, event, &fiber_config);
        if (r >= 0)
                r = fiber_pool_new(&dispatcher->large, event, &large_config);
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
        fiber_pool_free(dispatcher->large);
        runs_done(&dispatcher->runs);
        sd_event_unref(dispatcher->event);
        free(dispatcher);
        return NULL;
}

FiberPool *dispatcher_fibers(Dispatcher *dispatcher) {
        return dispatcher->fibers;
}

size_t dispatcher_statistics(const Dispatcher *dispatcher, BusStatistic *ret, size_t max) {
        FiberPoolStatistics figures, large;

        fiber_pool_get_statistics(dispatcher->fibers, &figures);
        fiber_pool_get_statistics(dispatcher->large, &large);
        const BusStatistic statistics[] = {
                {"fibers_running", figures.n_running},
                {"fibers_queued", figures.n_queued},
                {"fiber_stacks", figures.n_stacks},
                {"fibers_started", figures.n_started},
                {"fibers_refused", figures.n_refused},
                {"fibers_cancelled", figures.n_cancelled},
                {"large_calls_running", large.n_running},
                {"large_calls_queued", large.n_queued},
                {"large_calls_started", large.n_started},
                {"calls_dropped", dispatcher->n_dropped},
                {"calls_refused_to_roles", dispatcher->n_refused},
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

/* --- to another role --- */

static void unset_forwarded(Call *call) {
        call->cancel = NULL;
        TAILQ_REMOVE(&call->dispatcher->forwarded, call, forwarded);
}

static void on_remote_reply(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        Call *call = userdata;
        ProtobufCMessage *response;

        unset_forwarded(call);
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
        unset_forwarded(call);
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

static int find_peer(Dispatcher *dispatcher, const Call *call, RpcClient **ret) {
        char direct[UUID_TEXT_SIZE];

        return peers_get(&dispatcher->peers,
                routes_address(dispatcher->routes, call->method->role, shard_key(call, direct)), ret);
}

/* 0: it has no deadline. */
static int time_left(const Call *call, uint64_t *ret) {
        uint64_t now = call->deadline_usec > 0 ? boottime_usec() : 0;

        if (call->deadline_usec > 0 && now >= call->deadline_usec)
                return -ETIMEDOUT;
        *ret = call->deadline_usec - now;
        return 0;
}

static int send_to_peer(Call *call, RpcClient *peer) {
        Sc__Envelope__Delivery intent = SC__ENVELOPE__DELIVERY__INIT;
        uint64_t left;

        int r = time_left(call, &left);
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
        r = rpc_client_start(peer, call->method,
                &(RpcMessage){
                        .method = call->method->name,
                        .trace = &call->trace,
                        .caller = *call->caller.user ? &call->caller : NULL,
                        .intent = call->intent.source ? &intent : NULL,
                        .timeout_usec = left,
                        .order = call->order,
                        .payload = payload,
                        .payload_size = size,
                },
                on_remote_reply, call, &call->peer_request);
        if (r >= 0)
                call->peer = peer;
        return r;
}

static void forward(Dispatcher *dispatcher, Call *call) {
        RpcClient *peer;

        int r = find_peer(dispatcher, call, &peer);
        if (r >= 0)
                r = send_to_peer(call, peer);
        if (r < 0) {
                call_fail_errno(call, r, "send the request");
                return;
        }
        call->cancel = cancel_forwarded;
        TAILQ_INSERT_TAIL(&dispatcher->forwarded, call, forwarded);
}

/* False: it stays where it is. */
static bool move_call(Dispatcher *dispatcher, Call *call, int *ret) {
        RpcClient *peer;

        int r = find_peer(dispatcher, call, &peer);
        if (r >= 0 && (peer == call->peer || !rpc_client_withdraw(call->peer, call->peer_request)))
                return false;
        if (r < 0 && !rpc_client_withdraw(call->peer, call->peer_request))
                return false;
        *ret = r < 0 ? r : send_to_peer(call, peer);
        return true;
}

/* What waits for a peer that is no more the one to ask goes to the one that is, in the order of the calls; and so does
 * what that peer has not answered and may be done twice, or it would be passed by what is behind it. */
static void reroute(void *userdata) {
        Dispatcher *dispatcher = userdata;
        Call *call = TAILQ_FIRST(&dispatcher->forwarded), *next;
        int r;

        for (; call; call = next) {
                next = TAILQ_NEXT(call, forwarded);
                if (!move_call(dispatcher, call, &r) || r >= 0)
                        continue;
                /* Whom it fails may do anything, and has to do it before the next one is moved. */
                unset_forwarded(call);
                call_fail(call, ERROR_UNAVAILABLE, "%s", "the role has moved");
                next = TAILQ_FIRST(&dispatcher->forwarded);
        }
}

void dispatcher_routes_changed(Dispatcher *dispatcher) {
        reroute(dispatcher);
}

/* --- on a fiber --- */

static void run_call(void *userdata) {
        Call *call = userdata;
        ProtobufCMessage *response = arena_new_message(&call->arena, call->method->response->descriptor);
        int r = response ? call->handler(call, call->request, response) : -ENOMEM;

        call->cancel = NULL;
        call->fiber = NULL;
        call_end(call, r, response);
}

static void on_cancelled_unstarted(int r, void *userdata) {
        Call *call = userdata;

        call->cancel = NULL;
        call->fiber = NULL;
        call->dispatcher->n_dropped++;
        call_end(call, r, NULL);
}

static void cancel_on_fiber(Call *call, int r) {
        fiber_cancel(call->fiber, r);
}

/* Of a large call: has its peer read what was answered before? */
static bool may_start_large(void *userdata) {
        const Call *call = userdata;

        return !call->origin || !rpc_connection_is_congested(call->origin);
}

static void run_on_fiber(Dispatcher *dispatcher, Call *call) {
        const MethodInfo *method = call->method;

        if (call->deadline_usec == 0 && dispatcher->timeout_usec > 0)
                call->deadline_usec = boottime_usec() + dispatcher->timeout_usec;
        call->cancel = cancel_on_fiber;
        int r = fiber_start(method->large ? dispatcher->large : dispatcher->fibers,
                &(FiberStart){
                        .main = run_call,
                        .cancelled = on_cancelled_unstarted,
                        .userdata = call,
                        .key = isempty(call->caller.user) ? call->address : call->caller.user,
                        .may_start = method->large ? may_start_large : NULL,
                        .internal = method->access == ACCESS_INTERNAL && !method->large,
                        .deadline_usec = call->deadline_usec,
                        .trace = &call->trace,
                },
                &call->fiber);
        if (r < 0) {
                call->cancel = NULL;
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
        int r = call_check_wanted(call);
        if (r < 0) {
                dispatcher->n_dropped++;
                call_fail_errno(call, r, "begin");
        } else if (binding->hot_handler)
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

/* The roles at the edge call what their clients may; the rest is for those whom the method names. */
static bool peer_may_call(const MethodInfo *method, Role role) {
        if (method->access != ACCESS_INTERNAL)
                return role == ROLE_API || role == ROLE_SOCKET;
        return method->callers & 1U << role;
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
        if (message->timeout_usec > 0)
                call->deadline_usec = boottime_usec() + message->timeout_usec;
        call->order = message->order;
        /* The peer was checked, and has checked what its clients may do. */
        call->internal = true;
        call->origin = rpc_request_connection(request);
        rpc_request_set_userdata(request, call);
        if (method->hot)
                rpc_request_keep_order(request);
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
        Role role = rpc_connection_role(rpc_request_connection(request));
        if (!peer_may_call(method, role)) {
                dispatcher->n_refused++;
                log_peer((.message_id = MESSAGE_ID_CALL_REFUSED, .method = method->name), LOG_WARNING,
                        "Refusing %s to the role %s, which may not call it.", method->name,
                        role_to_string(role) ?: "(none)");
                rpc_request_fail(request, ERROR_PERMISSION_DENIED, method->name);
                return;
        }
        int r = serve_request(dispatcher, method, request, message);
        if (r == -ENOMEM) {
                runs_break(&dispatcher->runs, message->order, ERROR_OVERLOADED);
                rpc_request_fail(request, ERROR_OVERLOADED, "the request needs too much memory");
        } else if (r < 0)
                rpc_request_fail(request, ERROR_INVALID_ARGUMENT, "the request is malformed");
}

static void on_cancel(RpcRequest *request, _unused_ void *userdata) {
        Call *call = rpc_request_userdata(request);

        if (call)
                call_cancel(call);
}

static void on_room(_unused_ RpcConnection *connection, void *userdata) {
        Dispatcher *dispatcher = userdata;
        fiber_pool_admit(dispatcher->large);
}

static void on_disconnect(RpcConnection *connection, void *userdata) {
        Dispatcher *dispatcher = userdata;

        if (dispatcher->peer_gone)
                dispatcher->peer_gone(connection, dispatcher->role);
}

int dispatcher_serve(
        Dispatcher *dispatcher, int listen_fd, void (*peer_gone)(RpcConnection *peer, void *role)) {
        const RpcServerHandlers handlers = {
                .identify = dispatcher->identify,
                .on_request = on_request,
                .on_cancel = on_cancel,
                .on_room = on_room,
                .on_disconnect = on_disconnect,
        };
        dispatcher->peer_gone = peer_gone;
        return rpc_server_new(&dispatcher->server, dispatcher->event, listen_fd, dispatcher->peers.role,
                &handlers, dispatcher);
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
        fiber_pool_cancel_all(dispatcher->large);
}

void dispatcher_stop_serving(Dispatcher *dispatcher) {
        dispatcher_stop_calls(dispatcher);
        dispatcher->server = rpc_server_free(dispatcher->server);
}
