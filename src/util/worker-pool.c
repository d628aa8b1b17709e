/* SPDX-License-Identifier: Apache-2.0 */
#include "util/worker-pool.h"

struct WorkerPool {
        WorkQueue *queue;
        WorkReturn *back;
        unsigned max_queued;
        _Atomic unsigned n_queued;
};

static void on_batch(WorkList *batch, _unused_ unsigned thread, void *userdata) {
        WorkerPool *pool = userdata;
        WorkerJob *job = CONTAINER_OF(TAILQ_FIRST(batch), WorkerJob, item);

        pool->n_queued--;
        job->run(job);
        work_return_push(pool->back, batch);
}

static void on_done(WorkItem *item, _unused_ void *userdata) {
        WorkerJob *job = CONTAINER_OF(item, WorkerJob, item);
        job->done(job);
}

int worker_pool_new(
        WorkerPool **ret, sd_event *event, const char *name, unsigned n_threads, unsigned max_queued) {
        _cleanup_(worker_pool_freep) WorkerPool *pool = new0(WorkerPool, 1);

        if (!pool)
                return -ENOMEM;
        pool->max_queued = max_queued;
        int r = work_return_new(&pool->back, event, on_done, pool);
        if (r < 0)
                return r;
        r = work_queue_start(&pool->queue, &(WorkQueueConfig){
                                                   .name = name,
                                                   .n_threads = n_threads,
                                                   .max_batch = 1,
                                                   .run = on_batch,
                                                   .userdata = pool,
                                           });
        if (r < 0)
                return r;
        *ret = TAKE_PTR(pool);
        return 0;
}

WorkerPool *worker_pool_free(WorkerPool *pool) {
        if (!pool)
                return NULL;
        work_queue_stop(pool->queue);
        if (pool->back)
                work_return_flush(pool->back);
        work_return_free(pool->back);
        free(pool);
        return NULL;
}

int worker_pool_submit(WorkerPool *pool, WorkerJob *job) {
        /* Only the loop submits, so nobody else raises it meanwhile. */
        if (pool->n_queued >= pool->max_queued)
                return -EBUSY;
        pool->n_queued++;
        work_queue_push(pool->queue, &job->item);
        return 0;
}

bool worker_pool_is_alive(WorkerPool *pool, uint64_t max_busy_usec) {
        return work_queue_is_alive(pool->queue, max_busy_usec);
}
