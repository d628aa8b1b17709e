/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Work for threads, and the way back to the loop.
 *
 * What is handed over begins as a WorkItem, or contains one; it belongs to the queue, then to the thread
 * that has it in its batch, then to the return, and to the loop again. Neither end is bounded here: who
 * pushes knows what may wait. */

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "util/macro.h"

typedef struct WorkItem WorkItem;
struct WorkItem {
        TAILQ_ENTRY(WorkItem) link;
};
typedef TAILQ_HEAD(WorkList, WorkItem) WorkList;

/* The first of the list, taken out of it; NULL if it is empty. */
WorkItem *work_list_pop(WorkList *list);

/* --- threads --- */

typedef struct WorkQueue WorkQueue;

typedef struct WorkQueueConfig {
        const char *name; /* of the threads, at most 15 characters */
        unsigned n_threads;
        unsigned max_batch; /* most items that a thread takes at once */
        /* On thread number `thread`, from 0: carries out the batch and hands every item of it on, so that
         * the list is empty when it returns. */
        void (*run)(WorkList *batch, unsigned thread, void *userdata);
        /* On that thread, once when nothing came for rest_usec after its last batch: gives memory back that
         * it keeps for the next. Optional. */
        void (*rest)(unsigned thread, void *userdata);
        uint64_t rest_usec;
        void *userdata;
} WorkQueueConfig;

/* Starts the threads, with all signals blocked: they belong to the loop. */
int work_queue_start(WorkQueue **ret, const WorkQueueConfig *config);
/* Carries out what is queued, and joins the threads. */
WorkQueue *work_queue_stop(WorkQueue *queue);
DEFINE_CLEANUP(WorkQueue *, work_queue_stop);

void work_queue_push(WorkQueue *queue, WorkItem *item);
/* Moves what no thread has begun to the end of the list. */
void work_queue_drain(WorkQueue *queue, WorkList *list);
/* False if some thread has been busy with one batch for longer: the watchdog is not fed then. */
bool work_queue_is_alive(WorkQueue *queue, uint64_t max_busy_usec);

/* Starts a single thread, for who needs no queue; signals blocked as well. */
int thread_start(pthread_t *ret, const char *name, void *(*main)(void *userdata), void *userdata);

/* --- the way back --- */

typedef struct WorkReturn WorkReturn;

/* done() gets each item, on the loop, in the order in which they were pushed. */
int work_return_new(
        WorkReturn **ret, sd_event *event, void (*done)(WorkItem *item, void *userdata), void *userdata);
/* What is still there gets no done(): work_return_flush() comes first. */
WorkReturn *work_return_free(WorkReturn *back);
DEFINE_CLEANUP(WorkReturn *, work_return_free);
/* From any thread; the list is empty then. */
void work_return_push(WorkReturn *back, WorkList *list);
/* On the loop's thread: calls done() for what is there now. */
void work_return_flush(WorkReturn *back);
