/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Brings a call to its handler: our own, on a fiber or (hot ones) from the loop, or by the internal RPC to
 * the role that owns the method, on the host that the routes name for the method's scope. Serves our own
 * methods to the other roles.
 *
 * Every call has a deadline: its own, or `timeout_usec` from now. It is passed on with the time that is
 * left. A call whose caller has gone is cancelled, be it on a fiber, waiting for one, or waiting for another
 * role, which is told.
 *
 * A peer may call the internal methods that name its role (`callers` in the .proto), and as a role at the edge those
 * of users. Of methods whose answers are large at most two run a user and 32 in all, and none for a peer whose
 * connection is congested; the others wait, users take turns, and what nobody waits for any more is dropped. */

#include "bus/bus.h"
#include "conf/conf.h"
#include "rpc/rpc.h"
#include "service/call.h"
#include "service/routes.h"

typedef struct MethodBinding {
        const MethodInfo *method;
        int (*handler)(Call *call, const ProtobufCMessage *request, ProtobufCMessage *response);
        void (*hot_handler)(Call *call, const ProtobufCMessage *request); /* instead, of a hot method */
} MethodBinding;

/* The generated tables, sentinel {}. */
extern const MethodBinding api_methods[], group_methods[];

/* bindings: our own methods, NULL for none. */
int dispatcher_new(Dispatcher **ret, sd_event *event, Routes *routes, const MethodBinding *bindings,
        uint64_t timeout_usec);
/* Who we are, for the peers that we call, and who a peer is that calls us: RpcServerHandlers.identify (its
 * userdata is private), NULL for its default. Before the first call and dispatcher_serve(). */
void dispatcher_set_identity(
        Dispatcher *dispatcher, Role self, int (*identify)(const RpcIdentity *, Role *, void *));
/* What becomes Call.role of the calls that our own handlers get. */
void dispatcher_set_role(Dispatcher *dispatcher, void *role);
/* Fails every call that waits for another role. No fiber may be left: see dispatcher_stop_serving(). */
Dispatcher *dispatcher_free(Dispatcher *dispatcher);
DEFINE_CLEANUP(Dispatcher *, dispatcher_free);

/* The pool that calls run on, for whatever else of the role runs on fibers. */
FiberPool *dispatcher_fibers(Dispatcher *dispatcher);

/* The routes have changed: calls that wait for a link, or for an answer, go where they are to go now. */
void dispatcher_routes_changed(Dispatcher *dispatcher);

/* Checks the request's rules and access, then hands the call on; it is answered by its done(), perhaps at
 * once. From the loop, or from a fiber. */
void dispatcher_dispatch(Dispatcher *dispatcher, Call *call);

/* The figures of the fibers, as they stand among a role's statistics: how many of `max` there are. */
size_t dispatcher_statistics(const Dispatcher *dispatcher, BusStatistic *ret, size_t max);

/* An internal call with a packed request, not yet dispatched; whoever makes it fills in the other members.
 * -EBADMSG, -ENOMEM. */
int dispatcher_call_new(Call **ret, const MethodInfo *method, const void *request, size_t size,
        const Trace *trace, CallDone done, void *userdata);

/* A call of this role's own to another (or the same) role, e.g. group asking api for a user. The request is
 * copied. */
int dispatcher_call(Dispatcher *dispatcher, const MethodInfo *method, const ProtobufCMessage *request,
        const Trace *trace, const Sc__Caller *caller, CallDone done, void *userdata);

/* The delivery of an intent (service/intents.h). Strings and memory are the caller's, until it returns. */
typedef struct DispatcherDelivery {
        const MethodInfo *method;
        const void *request; /* packed */
        size_t request_size;
        const char *source; /* the partition it comes from */
        uint64_t number;
        const char *target; /* the partition it is for: picks the shard */
        const Trace *trace; /* NULL: none */
        uint64_t timeout_usec; /* 0: the dispatcher's */
} DispatcherDelivery;

typedef struct DispatcherOutcome {
        Sc__ErrorCode code; /* ERROR_NONE: done; schema_error(code)->temporary: try again later */
        char detail[160];
} DispatcherOutcome;

/* Brings the request to its target and waits for the answer, on a fiber: 0 and *ret, whatever was answered
 * (ERROR_UNAVAILABLE, ERROR_TIMEOUT and ERROR_OVERLOADED may be our own), or what this fiber was cancelled
 * with; then nothing is known. A request that does not unpack is ERROR_INVALID_ARGUMENT. */
int dispatcher_deliver(Dispatcher *dispatcher, const DispatcherDelivery *delivery, DispatcherOutcome *ret);

/* Serves our methods on an activated RPC socket; takes the fd. `peer_gone` may be NULL. */
int dispatcher_serve(
        Dispatcher *dispatcher, int listen_fd, void (*peer_gone)(RpcConnection *peer, void *role));
/* Takes no more requests from other roles, who send them again to whoever serves next; `drained` is called
 * once, when all that were taken are answered, perhaps at once. */
void dispatcher_drain(Dispatcher *dispatcher, void (*drained)(void *userdata), void *userdata);
/* Refuses calls from now on with ERROR_UNAVAILABLE, and cancels all fibers. Those that wait for a write go on
 * when it completes; so this comes first when a role ends, then it closes its store, and after that it frees
 * what handlers use: no fiber is left then. */
void dispatcher_stop_calls(Dispatcher *dispatcher);
/* The same, and disconnects the other roles: no request reaches the role from now on. */
void dispatcher_stop_serving(Dispatcher *dispatcher);
