/* SPDX-License-Identifier: Apache-2.0 */

/* Calls that a fiber makes and waits for: each is a call of its own, of this role or another, whose done()
 * brings the outcome to the fiber, if it still waits. */

#include <stdio.h>

#include "schema-tables.h"
#include "service/dispatcher.h"
#include "util/string-util.h"
#include "util/time-util.h"

typedef struct Answer {
        Future future;
        Call *call; /* NULL: done */
        Arena *arena; /* where the response goes; NULL: nobody wants it */
        ProtobufCMessage *response;
        int r; /* of taking in the response */
        DispatcherOutcome outcome;
} Answer;

static void answer_unref(Answer *answer) {
        future_unref(&answer->future);
}
DEFINE_CLEANUP(Answer *, answer_unref);

static Answer *answer_new(Arena *arena) {
        Answer *answer = new0(Answer, 1);
        if (!answer)
                return NULL;
        future_init(&answer->future, NULL);
        answer->arena = arena;
        return answer;
}

static void *pack(const ProtobufCMessage *message, size_t *ret_size) {
        *ret_size = protobuf_c_message_get_packed_size(message);
        uint8_t *packed = malloc(*ret_size ?: 1);
        if (packed)
                protobuf_c_message_pack(message, packed);
        return packed;
}

/* The response may lie in the other call's arena, or belong to this role. */
static int copy_message(Arena *arena, const ProtobufCMessage *message, ProtobufCMessage **ret) {
        size_t size;
        _cleanup_free_ void *packed = pack(message, &size);
        if (!packed)
                return -ENOMEM;
        return arena_unpack(arena, message->descriptor, packed, size, ret);
}

static void on_done(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        Answer *answer = userdata;

        answer->call = NULL;
        answer->outcome.code = code;
        snprintf(answer->outcome.detail, sizeof(answer->outcome.detail), "%s", strempty(detail));
        if (answer->arena && code == ERROR_NONE)
                answer->r = copy_message(answer->arena, response, &answer->response);
        future_fulfil(&answer->future);
}

/* 0: there is an outcome; or what this fiber was cancelled with. */
static int dispatch_and_wait(Dispatcher *dispatcher, Call *call, Answer *answer) {
        answer->call = call;
        future_ref(&answer->future);
        dispatcher_dispatch(dispatcher, call);
        int r = future_await(&answer->future);
        if (r < 0) {
                answer->arena = NULL;
                if (answer->call)
                        call_cancel(answer->call);
                return r;
        }
        return answer->r;
}

int call_ask(Call *call, const MethodInfo *method, const ProtobufCMessage *request, void *ret) {
        _cleanup_(answer_unrefp) Answer *answer = answer_new(&call->arena);
        _cleanup_(call_freep) Call *asked = NULL;
        size_t size;
        _cleanup_free_ void *packed = pack(request, &size);

        assert_se(call->method->access != ACCESS_INTERNAL);
        if (!answer || !packed)
                return -ENOMEM;
        int r = dispatcher_call_new(&asked, method, packed, size, &call->trace, on_done, answer);
        if (r < 0)
                return r;
        r = call_set_caller(asked, &call->caller);
        if (r < 0)
                return r;
        asked->address = arena_strdup(&asked->arena, call->address);
        if (!asked->address)
                return -ENOMEM;
        asked->deadline_usec = call->deadline_usec;
        r = dispatch_and_wait(call->dispatcher, TAKE_PTR(asked), answer);
        if (r < 0)
                return r;
        if (answer->outcome.code != ERROR_NONE)
                return call_refuse(call, answer->outcome.code, "%s", answer->outcome.detail);
        *(ProtobufCMessage **) ret = answer->response;
        return 0;
}

static int deliver(Dispatcher *dispatcher, const DispatcherDelivery *delivery, Answer *answer) {
        _cleanup_(call_freep) Call *call = NULL;

        int r = dispatcher_call_new(&call, delivery->method, delivery->request, delivery->request_size,
                delivery->trace, on_done, answer);
        if (r < 0)
                return r;
        call->intent.source = arena_strdup(&call->arena, delivery->source);
        call->intent.number = delivery->number;
        call->intent.target = arena_strdup(&call->arena, delivery->target);
        if (!call->intent.source || !call->intent.target)
                return -ENOMEM;
        if (delivery->timeout_usec > 0)
                call->deadline_usec = boottime_usec() + delivery->timeout_usec;
        return dispatch_and_wait(dispatcher, TAKE_PTR(call), answer);
}

int dispatcher_deliver(Dispatcher *dispatcher, const DispatcherDelivery *delivery, DispatcherOutcome *ret) {
        int r = fiber_check_cancelled();
        if (r < 0)
                return r;
        _cleanup_(answer_unrefp) Answer *answer = answer_new(NULL);
        r = answer ? deliver(dispatcher, delivery, answer) : -ENOMEM;
        if (r == -EBADMSG)
                *ret = (DispatcherOutcome){
                        .code = ERROR_INVALID_ARGUMENT, .detail = "the request is malformed"};
        else if (r == -ENOMEM)
                *ret = (DispatcherOutcome){.code = ERROR_OVERLOADED};
        else if (r < 0)
                return r;
        else
                *ret = answer->outcome;
        return 0;
}
