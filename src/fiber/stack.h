/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Stacks of fibers: mapped, so that only the pages that were touched are memory, with a guard below that no
 * access survives. Stacks that are free again are kept; those that nobody needed for a while are unmapped.
 */

#include <sys/queue.h>

#include "fiber/context.h"
#include "util/macro.h"

typedef struct Stack {
        TAILQ_ENTRY(Stack) link; /* in the pool, while it is free */
        Context context;
        void *memory; /* with the guard */
        unsigned valgrind_id;
        void *user; /* whoever runs on it */
} Stack;

typedef struct StackPool {
        TAILQ_HEAD(StackList, Stack) free; /* the one used last first: its pages are in the cache */
        unsigned n_free, n_mapped;
        unsigned n_unused; /* free ones that nobody has needed since stack_pool_trim() */
        void (*main)(void *stack); /* what runs on a stack, for as long as it is mapped */
} StackPool;

void stack_pool_init(StackPool *pool, void (*main)(void *stack));
/* All stacks must be free. */
void stack_pool_done(StackPool *pool);

/* NULL: out of memory. */
Stack *stack_pool_get(StackPool *pool);
void stack_pool_put(StackPool *pool, Stack *stack);

/* There are more free stacks than are kept for ever. */
bool stack_pool_has_surplus(const StackPool *pool);
/* Unmaps those of the surplus that were not needed since the last time. */
void stack_pool_trim(StackPool *pool);
