/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One invocation of a method, whichever surface it came in by: REST, the socket's rpc, the internal RPC. The
 * handler sees a checked request and who asks; it answers exactly once, now or later.
 *
 * A method's handler is void handle_message_send(Call *call, const Sc__SendRequest *request): declared by
 * the generated "service-handlers.h" and listed in the generated table of its role, so a method without a
 * handler does not link. */

#include <systemd/sd-event.h>

#include "log/log.h"
#include "proto/arena.h"
#include "proto/schema.h"
#include "stonechat/v1/internal.pb-c.h"

typedef struct Call Call;

/* Gets the outcome: response (packed as a struct, valid during the call) when code is ERROR_NONE, else NULL
 * and detail. Called exactly once; the call is freed after it. */
typedef void (*CallDone)(Call *call, Sc__ErrorCode code, const char *detail,
        const ProtobufCMessage *response, void *userdata);

struct Call {
        const MethodInfo *method;
        Trace trace;
        Sc__Caller caller; /* strings in the arena; user is empty for public methods */
        const char *address; /* of the peer at the edge, may be empty */
        ProtobufCMessage *request; /* in the arena */
        Arena arena; /* for the handler too: dies with the call */
        bool internal; /* made by a role: may use ACCESS_INTERNAL methods */
        void *role; /* the role's state, for handlers */
        void *origin; /* the internal RPC's RpcConnection that asked, or NULL */
        CallDone done;
        void *userdata;
};

/* An empty call whose arena may grow to arena_limit bytes; NULL when out of memory. The surface fills in the
 * members. */
Call *call_new(const MethodInfo *method, size_t arena_limit, CallDone done, void *userdata);
/* Only for a surface whose call was never dispatched. */
Call *call_free(Call *call);
DEFINE_CLEANUP(Call *, call_free);

/* Copies the caller into the call; NULL: nobody. -ENOMEM. */
int call_set_caller(Call *call, const Sc__Caller *caller);

/* Both free the call. */
void call_return(Call *call, const ProtobufCMessage *response);
void call_fail(Call *call, Sc__ErrorCode code, const char *format, ...) _printf_(3, 4);
/* From a negative errno of our own layers: -ENOSPC → ERROR_STORAGE_FULL, -EBUSY and -ENOBUFS →
 * ERROR_OVERLOADED, -ENOMEM …, anything else → ERROR_INTERNAL, logged with the trace. */
void call_fail_errno(Call *call, int r, const char *what);
