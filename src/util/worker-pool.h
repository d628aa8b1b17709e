/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Threads for what would block the loop: password hashing, name resolution, files.
 *
 * A job's run() happens on a worker, its done() on the loop thread, in the order of completion. The pool
 * never touches the job's memory otherwise: whoever submits a job keeps it alive until done(). The queue is
 * bounded: a full one refuses with -EBUSY, which surfaces answer as "overloaded". */

#include "util/work-queue.h"

typedef struct WorkerPool WorkerPool;

typedef struct WorkerJob WorkerJob;
struct WorkerJob {
        void (*run)(WorkerJob *job);
        void (*done)(WorkerJob *job);
        WorkItem item; /* the pool's */
};

/* Starts n_threads, each of which carries out one job at a time. */
int worker_pool_new(
        WorkerPool **ret, sd_event *event, const char *name, unsigned n_threads, unsigned max_queued);
/* Runs what is queued to its end, joins the threads, and calls the remaining done()s. */
WorkerPool *worker_pool_free(WorkerPool *pool);
DEFINE_CLEANUP(WorkerPool *, worker_pool_free);

int worker_pool_submit(WorkerPool *pool, WorkerJob *job);

/* False if some worker has been busy with one job for longer than this: the watchdog is not fed then. */
bool worker_pool_is_alive(WorkerPool *pool, uint64_t max_busy_usec);
