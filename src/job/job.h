/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Tasks that timers start. Each asks the roles that own the data to do some work, one call after the other,
 * and logs the result. A new task is a function and its line in job_tasks[]. */

#include "service/dispatcher.h"

/* A check reads a whole store; the unit's own limit is an hour. */
#define JOB_TIMEOUT_USEC (50 * 60 * USEC_PER_SEC)

typedef struct Job {
        sd_event *event;
        Routes *routes;
        Dispatcher *dispatcher;
        Trace trace; /* of this run */
} Job;

typedef struct JobTask {
        const char *name, *description;
        int (*run)(Job *job); /* 0; 1: what was looked for was found, and logged; negative: failed, and
                                 logged */
} JobTask;

extern const JobTask job_tasks[]; /* sentinel {} */

int job_new(Job **ret, sd_event *event);
Job *job_free(Job *job);
DEFINE_CLEANUP(Job *, job_free);

/* NULL if there is none of that name. */
const JobTask *job_find_task(const char *name);

/* Calls a method of another role and runs the loop until it has answered; the response is in the arena.
 * Failures are logged: -ENXIO if the role is not on this host, -EREMOTEIO if it answered with an error. */
int job_call(Job *job, const MethodInfo *method, const ProtobufCMessage *request, Arena *arena,
        ProtobufCMessage **ret);
