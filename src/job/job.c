/* SPDX-License-Identifier: Apache-2.0 */
#include "job/job.h"

#include <unistd.h>

#include "log/log.h"
#include "schema-tables.h"
#include "util/bytes.h"
#include "util/string-util.h"
#include "util/time-util.h"

int job_new(Job **ret, sd_event *event) {
        _cleanup_(job_freep) Job *job = new0(Job, 1);
        if (!job)
                return -ENOMEM;
        job->event = sd_event_ref(event);
        trace_new(&job->trace);
        job->trace.sampled = true; /* rare, and worth following */
        /* Without a bus: a task calls the roles of this host. */
        int r = routes_new(&job->routes, NULL, NULL, NULL);
        if (r < 0)
                return r;
        r = dispatcher_new(&job->dispatcher, event, job->routes, NULL, JOB_TIMEOUT_USEC);
        if (r < 0)
                return r;
        dispatcher_set_identity(job->dispatcher, ROLE_JOB, NULL);
        *ret = TAKE_PTR(job);
        return 0;
}

Job *job_free(Job *job) {
        if (!job)
                return NULL;
        dispatcher_free(job->dispatcher);
        routes_free(job->routes);
        sd_event_unref(job->event);
        free(job);
        return NULL;
}

const JobTask *job_find_task(const char *name) {
        for (const JobTask *task = job_tasks; task->name; task++)
                if (streq(task->name, name))
                        return task;
        return NULL;
}

typedef struct Waiting {
        bool done;
        int error;
        Buffer response; /* packed */
} Waiting;

static void on_done(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        Waiting *waiting = userdata;

        waiting->done = true;
        if (code != ERROR_NONE) {
                waiting->error = -EREMOTEIO;
                log_with((.trace = &call->trace, .method = call->method->name,
                                 .error = schema_error(code)->name),
                        LOG_ERR, "%s: %s%s%s", call->method->name, schema_error(code)->title,
                        isempty(detail) ? "" : ": ", strempty(detail));
                return;
        }
        size_t size = protobuf_c_message_get_packed_size(response);
        uint8_t *p = buffer_reserve(&waiting->response, size);
        if (p) {
                protobuf_c_message_pack(response, p);
                buffer_commit(&waiting->response, size);
        }
        waiting->error = waiting->response.error;
}

/* A role that this host does not have has no socket; waiting for it would take the whole time-out. */
static int check_role(const Job *job, const MethodInfo *method) {
        const char *address = routes_address(job->routes, method->role, NULL);

        if (access(address, F_OK) < 0)
                return log_error_errno(
                        -ENXIO, "There is no socket %s: the role is not running on this host.", address);
        return 0;
}

int job_call(Job *job, const MethodInfo *method, const ProtobufCMessage *request, Arena *arena,
        ProtobufCMessage **ret) {
        Waiting waiting = {};

        int r = check_role(job, method);
        if (r < 0)
                return r;
        r = dispatcher_call(job->dispatcher, method, request, &job->trace, NULL, on_done, &waiting);
        if (r < 0)
                return log_error_errno(r, "Failed to call %s: %m", method->name);
        while (!waiting.done) {
                r = sd_event_run(job->event, UINT64_MAX);
                if (r < 0) {
                        /* The call may still be answered, so its memory has to stay: end the process. */
                        log_error_errno(r, "The event loop failed: %m");
                        _exit(EXIT_FAILURE);
                }
        }
        _cleanup_buffer_ Buffer response = waiting.response;
        if (waiting.error < 0)
                return waiting.error;
        return arena_unpack(arena, method->response->descriptor, response.data, response.size, ret);
}
