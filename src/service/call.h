/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One invocation of a method, whichever surface it came in by: REST, the socket's rpc, the internal RPC.
 *
 * A method's handler is declared by the generated "service-handlers.h" and listed in the generated table of
 * its role, so a method without a handler does not link:
 *
 *      int handle_user_get(Call *call, const Sc__UserGetRequest *request, Sc__Profile *response);
 *
 * It runs on a fiber of its own, sees a checked request and who asks, fills in the response (which is
 * initialised; what it points at lives in call->arena or longer than the handler) and returns 0. To refuse
 * it returns call_refuse(call, ERROR_…, "detail"); any other negative errno is an error of our own layers,
 * which is logged and mapped (call_code_of_errno()). The call is cancelled when the caller has gone, when
 * its deadline has passed, and when the role stops: then whatever waits returns -ECANCELED or -ETIMEDOUT.
 *
 * Methods that are hot (`hot` in the .proto) have no fiber: void handle_message_send(Call *, const
 * Sc__SendRequest *) is called from the loop and answers, now or later, with call_return() or call_fail().
 */

#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "fiber/fiber.h"
#include "log/log.h"
#include "proto/arena.h"
#include "proto/schema.h"
#include "stonechat/v1/internal.pb-c.h"

typedef struct Call Call;
typedef struct Dispatcher Dispatcher;

/* Gets the outcome: response (packed as a struct, valid during the call) when code is ERROR_NONE, else NULL
 * and detail. Called exactly once; the call is freed after it. */
typedef void (*CallDone)(Call *call, Sc__ErrorCode code, const char *detail,
        const ProtobufCMessage *response, void *userdata);

/* Set when the call is the delivery of an intent (service/intents.h). */
typedef struct CallIntent {
        const char *source; /* the partition it was stored in; NULL: no intent */
        uint64_t number; /* of that source; grows */
        const char *target; /* the partition it is for */
} CallIntent;

struct Call {
        const MethodInfo *method;
        Trace trace;
        Sc__Caller caller; /* strings in the arena; user is empty for public methods */
        const char *address; /* of the peer at the edge, may be empty */
        ProtobufCMessage *request; /* in the arena */
        Arena arena; /* for the handler too: dies with the call */
        uint64_t deadline_usec; /* on CLOCK_BOOTTIME; 0: none */
        CallIntent intent;
        uint64_t order; /* calls with the same number keep their order; 0: none */
        bool internal; /* made by a role: may use ACCESS_INTERNAL methods */
        void *role; /* the role's state, for handlers */
        Dispatcher *dispatcher; /* that runs it */
        void *origin; /* the internal RPC's RpcConnection that asked, or NULL */
        CallDone done;
        void *userdata;

        Fiber *fiber; /* that runs the handler, or waits to; NULL: none yet, or hot */
        Sc__ErrorCode refusal; /* what call_refuse() was given */
        uint64_t retry_usec; /* of ERROR_RATE_LIMITED: after how long to try again; 0: not known */
        const char *detail; /* likewise, in the arena */

        /* Of the dispatcher. */
        struct Runs *runs; /* with an order: where its failure is remembered; NULL: not served here */
        TAILQ_ENTRY(Call) forwarded; /* while it waits for another role */
        void (*cancel)(Call *call, int r); /* while it runs on a fiber, waits for one, or for another role */
        bool abandoned; /* was cancelled while there was nothing to cancel: see call_check_wanted() */
        int (*handler)(Call *call, const ProtobufCMessage *request, ProtobufCMessage *response);
        struct RpcClient *peer; /* that it was sent to */
        uint64_t peer_request; /* as which it was sent */
};

/* An empty call whose arena may grow to arena_limit bytes; NULL when out of memory. The surface fills in the
 * members. */
Call *call_new(const MethodInfo *method, size_t arena_limit, CallDone done, void *userdata);
/* Only for a surface whose call was never dispatched. */
Call *call_free(Call *call);
DEFINE_CLEANUP(Call *, call_free);

/* Copies the caller into the call; NULL: nobody. -ENOMEM. */
int call_set_caller(Call *call, const Sc__Caller *caller);

/* --- handlers on fibers --- */

#define CALL_REFUSED (-EBADE) /* what call_refuse() and call_ask() return: `refusal` says more */

/* `return call_refuse(call, ERROR_NOT_FOUND, "…");` The detail names the field that is meant, or is "". */
int call_refuse(Call *call, Sc__ErrorCode code, const char *format, ...) _printf_(3, 4);
/* The same with ERROR_RATE_LIMITED, for somebody who may try again after `wait_usec`. */
int call_refuse_for(Call *call, uint64_t wait_usec, const char *what);

/* Calls another method on behalf of the same caller, with the same trace and deadline, and waits. *ret is
 * the response, in the call's arena. CALL_REFUSED: that method's error is this call's now (a handler may
 * look at call->refusal and go on). May suspend; never from an internal call. */
int call_ask(Call *call, const MethodInfo *method, const ProtobufCMessage *request, void *ret);

/* --- hot handlers, and surfaces --- */

/* All of them free the call. */
void call_return(Call *call, const ProtobufCMessage *response);
void call_fail(Call *call, Sc__ErrorCode code, const char *format, ...) _printf_(3, 4);
/* Does anybody wait for the answer still? 0, or -ETIMEDOUT or -ECANCELED for call_fail_errno(): its deadline has
 * passed, or the caller has gone. A hot handler asks before it begins what has waited in a queue, and answers so
 * instead. */
int call_check_wanted(const Call *call);
/* From a negative errno of our own layers, logged with the trace when it is not the peer's doing. */
void call_fail_errno(Call *call, int r, const char *what);

/* What a handler returned: 0 and the response, CALL_REFUSED, or an error of our own. */
void call_end(Call *call, int r, const ProtobufCMessage *response);

/* A handler that let the call wait beside others asks again before it goes on: ERROR_NONE, or what the call has to be
 * failed with, since one before it of the same order failed meanwhile. */
Sc__ErrorCode call_check_order(const Call *call);

/* -ENOSPC → ERROR_STORAGE_FULL; -EBUSY, -ENOBUFS, -ENOMEM → ERROR_OVERLOADED; -ECANCELED, -ENOTCONN →
 * ERROR_UNAVAILABLE; -ETIMEDOUT, -EINPROGRESS → ERROR_TIMEOUT; -ESTALE → ERROR_VERSION_CONFLICT; else
 * ERROR_INTERNAL. */
Sc__ErrorCode call_code_of_errno(int r);

/* The caller has gone, or wants no answer: cancels the fiber that runs the call, or forgets the request that
 * another role was sent and tells that role. done() is called all the same, perhaps at once. Of a hot method of our
 * own it is only noted, for call_check_wanted(), unless it has an order. */
void call_cancel(Call *call);
