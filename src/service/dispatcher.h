/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Brings a call to its handler: our own, or by the internal RPC to the role that owns the method, on the
 * host that the routes name. Serves our own methods to the other roles. */

#include "bus/bus.h"
#include "conf/conf.h"
#include "rpc/rpc.h"
#include "service/call.h"
#include "service/routes.h"

typedef struct Dispatcher Dispatcher;

typedef struct MethodBinding {
        const MethodInfo *method;
        void (*handler)(Call *call, const ProtobufCMessage *request);
} MethodBinding;

/* The generated tables, sentinel {}. */
extern const MethodBinding api_methods[], group_methods[];

/* bindings: our own methods, NULL for none. */
int dispatcher_new(Dispatcher **ret, sd_event *event, Routes *routes, const MethodBinding *bindings,
        uint64_t timeout_usec);
/* What becomes Call.role of the calls that our own handlers get. */
void dispatcher_set_role(Dispatcher *dispatcher, void *role);
/* Fails every call that waits for another role. */
Dispatcher *dispatcher_free(Dispatcher *dispatcher);
DEFINE_CLEANUP(Dispatcher *, dispatcher_free);

/* Checks the request's rules and access, then hands the call on; it is answered by its done(), perhaps at
 * once. */
void dispatcher_dispatch(Dispatcher *dispatcher, Call *call);

/* A call of this role's own to another (or the same) role, e.g. group asking api for a user. The request is
 * copied. */
int dispatcher_call(Dispatcher *dispatcher, const MethodInfo *method, const ProtobufCMessage *request,
        const Trace *trace, const Sc__Caller *caller, CallDone done, void *userdata);

/* Serves our methods on an activated RPC socket; takes the fd. `peer_gone` may be NULL. */
int dispatcher_serve(
        Dispatcher *dispatcher, int listen_fd, void (*peer_gone)(RpcConnection *peer, void *role));
/* Takes no more requests from other roles, who send them again to whoever serves next; `drained` is called
 * once, when all that were taken are answered, perhaps at once. */
void dispatcher_drain(Dispatcher *dispatcher, void (*drained)(void *userdata), void *userdata);
/* Disconnects the other roles, so that no request reaches a role that is being freed. */
void dispatcher_stop_serving(Dispatcher *dispatcher);
