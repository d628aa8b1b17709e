/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Memory that is free and that free() keeps. */

#include <stddef.h>

#include "util/macro.h"

#define MEMORY_KEEP ((size_t) 16 << 20)

/* Zero-initialise it. */
typedef struct MemoryWatch {
        size_t free_before; /* of the heap, at the last look */
        size_t given_back; /* that much of what counts as free has no pages any more */
} MemoryWatch;

/* Gives the heap's free memory back to the kernel when it was more than MEMORY_KEEP at this look and at the one
 * before: free() keeps what lies between blocks that are in use, which after a flood is most of it. Call it every
 * few seconds; what comes and goes between two looks is left alone. How much was free. */
size_t memory_give_back(MemoryWatch *watch);
