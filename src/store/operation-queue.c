/* SPDX-License-Identifier: Apache-2.0 */
#include "store/operation-queue.h"

void operation_queue_init(OperationQueue *queue) {
        *queue = (OperationQueue){};
        pthread_mutex_init(&queue->mutex, NULL);
        pthread_cond_init(&queue->wakeup, NULL);
        TAILQ_INIT(&queue->operations);
}

void operation_queue_done(OperationQueue *queue) {
        pthread_cond_destroy(&queue->wakeup);
        pthread_mutex_destroy(&queue->mutex);
}

void operation_queue_push(OperationQueue *queue, Operation *operation) {
        pthread_mutex_lock(&queue->mutex);
        TAILQ_INSERT_TAIL(&queue->operations, operation, link);
        bool wake = queue->n_waiting > 0;
        pthread_mutex_unlock(&queue->mutex);
        if (wake)
                pthread_cond_signal(&queue->wakeup);
}

unsigned operation_queue_pop(OperationQueue *queue, OperationList *list, unsigned max) {
        unsigned n = 0;

        pthread_mutex_lock(&queue->mutex);
        while (TAILQ_EMPTY(&queue->operations) && !queue->stop) {
                queue->n_waiting++;
                pthread_cond_wait(&queue->wakeup, &queue->mutex);
                queue->n_waiting--;
        }
        for (; n < max && !TAILQ_EMPTY(&queue->operations); n++) {
                Operation *operation = TAILQ_FIRST(&queue->operations);
                TAILQ_REMOVE(&queue->operations, operation, link);
                TAILQ_INSERT_TAIL(list, operation, link);
        }
        pthread_mutex_unlock(&queue->mutex);
        return n;
}

void operation_queue_stop(OperationQueue *queue) {
        pthread_mutex_lock(&queue->mutex);
        queue->stop = true;
        pthread_cond_broadcast(&queue->wakeup);
        pthread_mutex_unlock(&queue->mutex);
}

void operation_queue_drain(OperationQueue *queue, OperationList *list) {
        pthread_mutex_lock(&queue->mutex);
        TAILQ_CONCAT(list, &queue->operations, link);
        pthread_mutex_unlock(&queue->mutex);
}
