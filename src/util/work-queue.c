/* SPDX-License-Identifier: Apache-2.0 */
#include "util/work-queue.h"

#include <signal.h>
#include <sys/eventfd.h>

#include "util/busy-clock.h"
#include "util/fd-util.h"
#include "util/time-util.h"

typedef struct Thread {
        WorkQueue *queue;
        pthread_t thread;
        BusyClock busy;
        bool worked; /* since its last rest */
} Thread;

struct WorkQueue {
        WorkQueueConfig config; /* without the name */
        pthread_mutex_t mutex;
        pthread_cond_t wakeup;
        WorkList items; /* this and what follows: under the mutex */
        unsigned n_waiting; /* threads */
        bool stop;

        unsigned n_threads; /* started */
        Thread threads[];
};

WorkItem *work_list_pop(WorkList *list) {
        WorkItem *item = TAILQ_FIRST(list);

        if (item)
                TAILQ_REMOVE(list, item, link);
        return item;
}

static bool is_waiting(const WorkQueue *queue) {
        return TAILQ_EMPTY(&queue->items) && !queue->stop;
}

/* With the mutex. False if it is time to rest. */
static bool wait_for_items(Thread *thread, const struct timespec *rest_at) {
        WorkQueue *queue = thread->queue;
        int r = 0;

        queue->n_waiting++;
        if (thread->worked)
                r = pthread_cond_timedwait(&queue->wakeup, &queue->mutex, rest_at);
        else
                pthread_cond_wait(&queue->wakeup, &queue->mutex);
        queue->n_waiting--;
        return r != ETIMEDOUT;
}

/* With the mutex, which it lets go of meanwhile. */
static void rest(Thread *thread) {
        WorkQueue *queue = thread->queue;

        thread->worked = false;
        pthread_mutex_unlock(&queue->mutex);
        busy_begin(&thread->busy);
        queue->config.rest((unsigned) (thread - queue->threads), queue->config.userdata);
        busy_end(&thread->busy);
        pthread_mutex_lock(&queue->mutex);
}

static struct timespec rest_time(const WorkQueue *queue) {
        uint64_t usec = now_usec(CLOCK_MONOTONIC) + queue->config.rest_usec;

        return (struct timespec){.tv_sec = (time_t) (usec / USEC_PER_SEC),
                .tv_nsec = (long) (usec % USEC_PER_SEC * NSEC_PER_USEC)};
}

/* Waits for items and moves up to max of them to the list. False once the queue is stopped and empty. */
static bool pop_batch(Thread *thread, WorkList *batch) {
        WorkQueue *queue = thread->queue;
        struct timespec rest_at = {};

        pthread_mutex_lock(&queue->mutex);
        if (thread->worked && is_waiting(queue))
                rest_at = rest_time(queue);
        while (is_waiting(queue))
                if (!wait_for_items(thread, &rest_at) && is_waiting(queue))
                        rest(thread);
        for (unsigned n = 0; n < queue->config.max_batch; n++) {
                WorkItem *item = work_list_pop(&queue->items);
                if (!item)
                        break;
                TAILQ_INSERT_TAIL(batch, item, link);
        }
        pthread_mutex_unlock(&queue->mutex);
        return !TAILQ_EMPTY(batch);
}

static void *thread_main(void *userdata) {
        Thread *thread = userdata;
        WorkQueue *queue = thread->queue;
        WorkList batch = TAILQ_HEAD_INITIALIZER(batch);

        while (pop_batch(thread, &batch)) {
                thread->worked = queue->config.rest != NULL;
                busy_begin(&thread->busy);
                queue->config.run(&batch, (unsigned) (thread - queue->threads), queue->config.userdata);
                busy_end(&thread->busy);
        }
        return NULL;
}

int thread_start(pthread_t *ret, const char *name, void *(*main)(void *userdata), void *userdata) {
        sigset_t all, saved;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        int r = pthread_create(ret, NULL, main, userdata);
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        if (r == 0)
                pthread_setname_np(*ret, name);
        return -r;
}

static void init_wakeup(WorkQueue *queue) {
        pthread_condattr_t attributes;

        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&queue->wakeup, &attributes);
        pthread_condattr_destroy(&attributes);
}

int work_queue_start(WorkQueue **ret, const WorkQueueConfig *config) {
        _cleanup_(work_queue_stopp) WorkQueue *queue =
                calloc(1, sizeof(WorkQueue) + config->n_threads * sizeof(Thread));
        if (!queue)
                return -ENOMEM;
        queue->config = *config;
        queue->config.name = NULL;
        pthread_mutex_init(&queue->mutex, NULL);
        init_wakeup(queue);
        TAILQ_INIT(&queue->items);
        for (; queue->n_threads < config->n_threads; queue->n_threads++) {
                Thread *thread = &queue->threads[queue->n_threads];
                thread->queue = queue;
                int r = thread_start(&thread->thread, config->name, thread_main, thread);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(queue);
        return 0;
}

WorkQueue *work_queue_stop(WorkQueue *queue) {
        if (!queue)
                return NULL;
        pthread_mutex_lock(&queue->mutex);
        queue->stop = true;
        pthread_cond_broadcast(&queue->wakeup);
        pthread_mutex_unlock(&queue->mutex);
        FOREACH_ARRAY(thread, queue->threads, queue->n_threads)
                pthread_join(thread->thread, NULL);
        pthread_cond_destroy(&queue->wakeup);
        pthread_mutex_destroy(&queue->mutex);
        free(queue);
        return NULL;
}

void work_queue_push(WorkQueue *queue, WorkItem *item) {
        pthread_mutex_lock(&queue->mutex);
        TAILQ_INSERT_TAIL(&queue->items, item, link);
        bool wake = queue->n_waiting > 0;
        pthread_mutex_unlock(&queue->mutex);
        if (wake)
                pthread_cond_signal(&queue->wakeup);
}

void work_queue_drain(WorkQueue *queue, WorkList *list) {
        pthread_mutex_lock(&queue->mutex);
        TAILQ_CONCAT(list, &queue->items, link);
        pthread_mutex_unlock(&queue->mutex);
}

bool work_queue_is_alive(WorkQueue *queue, uint64_t max_busy_usec) {
        FOREACH_ARRAY(thread, queue->threads, queue->n_threads)
                if (!busy_is_alive(&thread->busy, max_busy_usec))
                        return false;
        return true;
}

struct WorkReturn {
        void (*done)(WorkItem *item, void *userdata);
        void *userdata;
        sd_event_source *source;
        int event_fd; /* readable: there are items */
        pthread_mutex_t mutex;
        WorkList items; /* under the mutex */
};

void work_return_push(WorkReturn *back, WorkList *list) {
        static const uint64_t one = 1;

        pthread_mutex_lock(&back->mutex);
        bool wake = TAILQ_EMPTY(&back->items) && !TAILQ_EMPTY(list);
        TAILQ_CONCAT(&back->items, list, link);
        pthread_mutex_unlock(&back->mutex);
        /* Fails only when the counter is full, and then the loop is awake already. */
        if (wake)
                (void) !write(back->event_fd, &one, sizeof(one));
}

void work_return_flush(WorkReturn *back) {
        WorkList list = TAILQ_HEAD_INITIALIZER(list);
        WorkItem *item;

        pthread_mutex_lock(&back->mutex);
        TAILQ_CONCAT(&list, &back->items, link);
        pthread_mutex_unlock(&back->mutex);
        while ((item = work_list_pop(&list)))
                back->done(item, back->userdata);
}

static int on_returned(_unused_ sd_event_source *source, int fd, _unused_ uint32_t revents, void *userdata) {
        uint64_t count;

        (void) !read(fd, &count, sizeof(count));
        work_return_flush(userdata);
        return 0;
}

int work_return_new(
        WorkReturn **ret, sd_event *event, void (*done)(WorkItem *item, void *userdata), void *userdata) {
        _cleanup_(work_return_freep) WorkReturn *back = new0(WorkReturn, 1);

        if (!back)
                return -ENOMEM;
        back->done = done;
        back->userdata = userdata;
        pthread_mutex_init(&back->mutex, NULL);
        TAILQ_INIT(&back->items);
        back->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (back->event_fd < 0)
                return -errno;
        int r = sd_event_add_io(event, &back->source, back->event_fd, EPOLLIN, on_returned, back);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(back);
        return 0;
}

WorkReturn *work_return_free(WorkReturn *back) {
        if (!back)
                return NULL;
        sd_event_source_disable_unref(back->source);
        safe_close(back->event_fd);
        pthread_mutex_destroy(&back->mutex);
        free(back);
        return NULL;
}
