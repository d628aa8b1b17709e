/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A queue that threads of a back end take operations from. Bounded by the store, not here. */

#include <pthread.h>

#include "store/operation.h"

typedef struct OperationQueue {
        pthread_mutex_t mutex;
        pthread_cond_t wakeup;
        OperationList operations;
        unsigned n_waiting; /* threads */
        bool stop;
} OperationQueue;

void operation_queue_init(OperationQueue *queue);
void operation_queue_done(OperationQueue *queue);
void operation_queue_push(OperationQueue *queue, Operation *operation);
/* Waits for operations and moves up to max of them to the list. Answers how many; 0 once the queue is
 * stopped and empty. */
unsigned operation_queue_pop(OperationQueue *queue, OperationList *list, unsigned max);
/* Wakes everybody up; what is queued can still be popped. */
void operation_queue_stop(OperationQueue *queue);
/* Takes all that is queued. */
void operation_queue_drain(OperationQueue *queue, OperationList *list);
