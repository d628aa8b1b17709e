/* SPDX-License-Identifier: Apache-2.0 */
#include "service/call.h"

#include <stdio.h>

#include "schema-tables.h"

Call *call_new(const MethodInfo *method, size_t arena_limit, CallDone done, void *userdata) {
        Call *call = new0(Call, 1);
        if (!call)
                return NULL;
        arena_init(&call->arena, arena_limit);
        call->method = method;
        call->caller = (Sc__Caller) SC__CALLER__INIT;
        call->address = "";
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
        char detail[256];
        va_list ap;

        assert_se(code != ERROR_NONE);
        va_start(ap, format);
        vsnprintf(detail, sizeof(detail), format, ap);
        va_end(ap);
        log_trace(&call->trace, (.method = call->method->name, .error = schema_error(code)->name),
                "%s refused: %s", call->method->name, schema_error(code)->name);
        call->done(call, code, detail, NULL, call->userdata);
        call_free(call);
}

void call_fail_errno(Call *call, int r, const char *what) {
        Sc__ErrorCode code;

        switch (r) {
        case -ENOSPC:
                code = ERROR_STORAGE_FULL;
                break;
        case -EBUSY:
        case -ENOBUFS:
        case -ENOMEM:
                code = ERROR_OVERLOADED;
                break;
        case -ECANCELED:
                code = ERROR_UNAVAILABLE;
                break;
        case -ESTALE:
                code = ERROR_VERSION_CONFLICT;
                break;
        default:
                code = ERROR_INTERNAL;
        }
        log_peer((.trace = &call->trace, .method = call->method->name, .error = schema_error(code)->name,
                         .error_number = -r),
                code == ERROR_INTERNAL ? LOG_ERR : LOG_WARNING, "%s failed to %s: %m", call->method->name,
                what);
        call_fail(call, code, "%s", "");
}
