/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Starts that wait for a stack: first come, first served within a key, and the keys take turns. A queue may also
 * count what runs of each key, and hold back the keys of which enough runs. */

#include <stdbool.h>
#include <sys/queue.h>

#include "util/macro.h"

typedef struct StartKey StartKey;

typedef struct StartItem {
        TAILQ_ENTRY(StartItem) link;
        StartKey *key; /* NULL: it does not wait, nor is it counted as running */
} StartItem;

typedef struct StartQueue {
        StartKey *keys;
        TAILQ_HEAD(, StartKey) turns; /* the keys that have items, whose turn is next first */
        unsigned n;
        unsigned max_running_per_key; /* 0: any number, and they are not counted */
} StartQueue;

void start_queue_init(StartQueue *queue, unsigned max_running_per_key);
/* -EBUSY: the key has max_per_key already; -ENOMEM. The key is copied. */
int start_queue_add(StartQueue *queue, const char *key, unsigned max_per_key, StartItem *item);
/* Takes out whose turn it is; NULL: none. A key of which enough runs, or whose first item may() holds back (NULL:
 * none), lets the others go before it. */
StartItem *start_queue_take(StartQueue *queue, bool (*may)(const StartItem *item));
/* One that was taken and did not begin waits again, as the first. Only where they are counted. */
void start_queue_put_back(StartQueue *queue, StartItem *item);
/* One that was taken runs no more. Only where they are counted. */
void start_queue_end(StartQueue *queue, StartItem *item);
/* Takes out one that waits. */
void start_queue_remove(StartQueue *queue, StartItem *item);
