/* SPDX-License-Identifier: Apache-2.0 */
#include "util/worker-pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "util/fd-util.h"
#include "util/time-util.h"

typedef struct Worker {
        WorkerPool *pool;
        pthread_t thread;
        _Atomic uint64_t busy_since; /* 0: idle */
} Worker;

typedef struct JobList {
        WorkerJob *first, **end;
} JobList;

struct WorkerPool {
        pthread_mutex_t mutex;
        pthread_cond_t wakeup;
        JobList queued, finished; /* under the mutex */
        unsigned n_queued, max_queued;
        bool stop;
        int event_fd;
        sd_event_source *source;
        unsigned n_workers;
        Worker workers[];
};

static void job_list_append(JobList *list, WorkerJob *job) {
        job->next = NULL;
        *list->end = job;
        list->end = &job->next;
}

static WorkerJob *job_list_pop(JobList *list) {
        WorkerJob *job = list->first;
        if (job) {
                list->first = job->next;
                if (!list->first)
                        list->end = &list->first;
        }
        return job;
}

static void *worker_main(void *userdata) {
        Worker *worker = userdata;
        WorkerPool *pool = worker->pool;
        static const uint64_t one = 1;

        pthread_mutex_lock(&pool->mutex);
        for (;;) {
                WorkerJob *job = job_list_pop(&pool->queued);
                if (!job) {
                        if (pool->stop)
                                break;
                        pthread_cond_wait(&pool->wakeup, &pool->mutex);
                        continue;
                }
                pool->n_queued--;
                pthread_mutex_unlock(&pool->mutex);
                atomic_store(&worker->busy_since, boottime_usec());
                job->run(job);
                atomic_store(&worker->busy_since, 0);
                pthread_mutex_lock(&pool->mutex);
                job_list_append(&pool->finished, job);
                /* Fails only when the counter is full, and then the loop is awake already. */
                (void) !write(pool->event_fd, &one, sizeof(one));
        }
        pthread_mutex_unlock(&pool->mutex);
        return NULL;
}

static void complete_finished(WorkerPool *pool) {
        pthread_mutex_lock(&pool->mutex);
        WorkerJob *job = pool->finished.first;
        pool->finished = (JobList){.end = &pool->finished.first};
        pthread_mutex_unlock(&pool->mutex);
        while (job) {
                WorkerJob *next = job->next;
                job->done(job);
                job = next;
        }
}

static int on_finished(_unused_ sd_event_source *source, int fd, _unused_ uint32_t revents, void *userdata) {
        uint64_t count;

        (void) !read(fd, &count, sizeof(count));
        complete_finished(userdata);
        return 0;
}

static int start_workers(WorkerPool *pool, const char *name, unsigned n_threads) {
        sigset_t all, saved;
        int r = 0;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        for (; pool->n_workers < n_threads && r == 0; pool->n_workers++) {
                Worker *worker = &pool->workers[pool->n_workers];
                worker->pool = pool;
                r = pthread_create(&worker->thread, NULL, worker_main, worker);
                if (r != 0)
                        break;
                char thread_name[16];
                snprintf(thread_name, sizeof(thread_name), "%s", name);
                pthread_setname_np(worker->thread, thread_name);
        }
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        return -r;
}

int worker_pool_new(
        WorkerPool **ret, sd_event *event, const char *name, unsigned n_threads, unsigned max_queued) {
        _cleanup_(worker_pool_freep) WorkerPool *pool =
                calloc(1, sizeof(WorkerPool) + n_threads * sizeof(Worker));
        if (!pool)
                return -ENOMEM;
        pthread_mutex_init(&pool->mutex, NULL);
        pthread_cond_init(&pool->wakeup, NULL);
        pool->queued.end = &pool->queued.first;
        pool->finished.end = &pool->finished.first;
        pool->max_queued = max_queued;
        pool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (pool->event_fd < 0)
                return -errno;
        int r = sd_event_add_io(event, &pool->source, pool->event_fd, EPOLLIN, on_finished, pool);
        if (r < 0)
                return r;
        r = start_workers(pool, name, n_threads);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(pool);
        return 0;
}

WorkerPool *worker_pool_free(WorkerPool *pool) {
        if (!pool)
                return NULL;
        pthread_mutex_lock(&pool->mutex);
        pool->stop = true;
        pthread_cond_broadcast(&pool->wakeup);
        pthread_mutex_unlock(&pool->mutex);
        for (unsigned i = 0; i < pool->n_workers; i++)
                pthread_join(pool->workers[i].thread, NULL);
        complete_finished(pool);
        sd_event_source_disable_unref(pool->source);
        safe_close(pool->event_fd);
        pthread_cond_destroy(&pool->wakeup);
        pthread_mutex_destroy(&pool->mutex);
        free(pool);
        return NULL;
}

int worker_pool_submit(WorkerPool *pool, WorkerJob *job) {
        pthread_mutex_lock(&pool->mutex);
        if (pool->n_queued >= pool->max_queued) {
                pthread_mutex_unlock(&pool->mutex);
                return -EBUSY;
        }
        pool->n_queued++;
        job_list_append(&pool->queued, job);
        pthread_cond_signal(&pool->wakeup);
        pthread_mutex_unlock(&pool->mutex);
        return 0;
}

bool worker_pool_is_alive(WorkerPool *pool, uint64_t max_busy_usec) {
        uint64_t now = boottime_usec();

        for (unsigned i = 0; i < pool->n_workers; i++) {
                uint64_t since = atomic_load(&pool->workers[i].busy_since);
                if (since > 0 && now > since && now - since > max_busy_usec)
                        return false;
        }
        return true;
}
