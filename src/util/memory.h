/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Memory that is free and that free() keeps. */

#include <stddef.h>

#include "util/macro.h"

#define MEMORY_KEEP ((size_t) 1 << 20)

typedef struct MemoryLook {
        size_t free; /* that the heap keeps */
        size_t resident; /* of the process */
} MemoryLook;

/* Zero-initialise it. */
typedef struct MemoryWatch {
        MemoryLook before;
        size_t base; /* resident after the heap was last trimmed, or less since */
} MemoryWatch;

/* For the beginning of a program: its threads share one heap. The heaps that glibc makes for threads keep what is free
 * at their end, up to tens of megabytes after a peak, and memory_give_back() does not reach that. */
void memory_share_heap(void);

/* Gives the heap's free memory back to the kernel when it was more than MEMORY_KEEP at this look and at the one
 * before, and the process has grown by as much since it last did: free() keeps what lies between blocks that are in
 * use, which after a flood is most of it, and what of it has pages the heap itself does not know. Call it every few
 * seconds; what comes and goes between two looks is left alone. How much was free. */
size_t memory_give_back(MemoryWatch *watch);
