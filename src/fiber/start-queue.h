/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Starts that wait for a stack: first come, first served within a key, and the keys take turns. */

#include <sys/queue.h>

#include "util/macro.h"

typedef struct StartKey StartKey;

typedef struct StartItem {
        TAILQ_ENTRY(StartItem) link;
        StartKey *key; /* NULL: it does not wait */
} StartItem;

typedef struct StartQueue {
        StartKey *keys;
        TAILQ_HEAD(, StartKey) turns; /* the keys that have items, whose turn is next first */
        unsigned n;
} StartQueue;

void start_queue_init(StartQueue *queue);
/* -EBUSY: the key has max_per_key already; -ENOMEM. The key is copied. */
int start_queue_add(StartQueue *queue, const char *key, unsigned max_per_key, StartItem *item);
/* Takes out whose turn it is; NULL: none. */
StartItem *start_queue_take(StartQueue *queue);
/* Takes out one that waits. */
void start_queue_remove(StartQueue *queue, StartItem *item);
