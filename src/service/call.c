/* SPDX-License-Identifier: Apache-2.0 */
#include "service/call.h"

#include <stdio.h>

#include "schema-tables.h"
#include "service/charge.h"
#include "service/runs.h"
#include "util/time-util.h"

#define CALL_DETAIL_SIZE 256

Call *call_new(const MethodInfo *method, size_t arena_limit, CallDone done, void *userdata) {
        Call *call = new0(Call, 1);
        if (!call)
                return NULL;
        arena_init(&call->arena, arena_limit);
        call->method = method;
        call->caller = (Sc__Caller) SC__CALLER__INIT;
        call->address = "";
        call->detail = "";
        call->done = done;
        call->userdata = userdata;
        return call;
}

Call *call_free(Call *call) {
        if (!call)
                return NULL;
        arena_done(&call->arena);
        free(call);
        return NULL;
}

int call_set_caller(Call *call, const Sc__Caller *caller) {
        if (!caller)
                return 0;
        call->caller.user = arena_strdup(&call->arena, caller->user);
        call->caller.session = arena_strdup(&call->arena, caller->session);
        call->caller.device = arena_strdup(&call->arena, caller->device);
        call->caller.client = arena_strdup(&call->arena, caller->client);
        return call->caller.user && call->caller.session && call->caller.device && call->caller.client
                       ? 0
                       : -ENOMEM;
}

void call_return(Call *call, const ProtobufCMessage *response) {
        assert_se(response->descriptor == call->method->response->descriptor);
        call->done(call, ERROR_NONE, NULL, response, call->userdata);
        call_free(call);
}

void call_fail(Call *call, Sc__ErrorCode code, const char *format, ...) {
        char detail[CALL_DETAIL_SIZE];
        va_list ap;

        assert_se(code != ERROR_NONE);
        va_start(ap, format);
        vsnprintf(detail, sizeof(detail), format, ap);
        va_end(ap);
        if (call->runs && schema_error(code)->temporary)
                runs_break(call->runs, call->order, code);
        log_trace(&call->trace, (.method = call->method->name, .error = schema_error(code)->name),
                "%s refused: %s", call->method->name, schema_error(code)->name);
        call->done(call, code, detail, NULL, call->userdata);
        call_free(call);
}

Sc__ErrorCode call_check_order(const Call *call) {
        return call->runs ? runs_check(call->runs, call->order) : ERROR_NONE;
}

Sc__ErrorCode call_code_of_errno(int r) {
        switch (r) {
        case -ENOSPC:
                return ERROR_STORAGE_FULL;
        case -EBUSY:
        case -ENOBUFS:
        case -ENOMEM:
                return ERROR_OVERLOADED;
        case -ECANCELED:
        case -ENOTCONN:
                return ERROR_UNAVAILABLE;
        case -ETIMEDOUT:
        case -EINPROGRESS:
                return ERROR_TIMEOUT;
        case -ESTALE:
                return ERROR_VERSION_CONFLICT;
        default:
                return ERROR_INTERNAL;
        }
}

/* A call that was cancelled, or came too late, is its caller's doing. */
static int level_of_errno(int r) {
        if (r == -ECANCELED || r == -ETIMEDOUT)
                return LOG_DEBUG;
        return call_code_of_errno(r) == ERROR_INTERNAL ? LOG_ERR : LOG_WARNING;
}

void call_fail_errno(Call *call, int r, const char *what) {
        Sc__ErrorCode code = call_code_of_errno(r);

        const ErrorInfo *error = schema_error(code);

        /* The errno alone says little: "Operation now in progress" is an unknown outcome. */
        log_peer((.trace = &call->trace, .method = call->method->name, .error = error->name,
                         .error_number = -r),
                level_of_errno(r), "%s failed to %s: %s (%m)", call->method->name, what, error->title);
        call_fail(call, code, "%s", "");
}

int call_refuse(Call *call, Sc__ErrorCode code, const char *format, ...) {
        char detail[CALL_DETAIL_SIZE];
        va_list ap;

        assert_se(code != ERROR_NONE);
        va_start(ap, format);
        vsnprintf(detail, sizeof(detail), format, ap);
        va_end(ap);
        call->refusal = code;
        call->detail = arena_strdup(&call->arena, detail) ?: "";
        return CALL_REFUSED;
}

int call_refuse_for(Call *call, uint64_t wait_usec, const char *what) {
        call->retry_usec = wait_usec;
        return call_refuse(
                call, ERROR_RATE_LIMITED, "%s; again in %u s", what, charge_wait_seconds(wait_usec));
}

void call_end(Call *call, int r, const ProtobufCMessage *response) {
        if (r >= 0)
                call_return(call, response);
        else if (r == CALL_REFUSED && call->refusal != ERROR_NONE)
                call_fail(call, call->refusal, "%s", call->detail);
        else
                call_fail_errno(call, r, "finish");
}

int call_check_wanted(const Call *call) {
        if (call->abandoned)
                return -ECANCELED;
        return call->deadline_usec > 0 && boottime_usec() >= call->deadline_usec ? -ETIMEDOUT : 0;
}

void call_cancel(Call *call) {
        if (call->cancel)
                call->cancel(call, -ECANCELED);
        else if (call->order == 0)
                /* One of a run goes on: it may be sent again, and dropping it would break its run. */
                call->abandoned = true;
}
