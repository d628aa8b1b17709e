/* SPDX-License-Identifier: Apache-2.0 */
#include "util/memory.h"

#include <malloc.h>

size_t memory_give_back(MemoryWatch *watch) {
        size_t free_now = mallinfo2().fordblks;
        size_t before = watch->free_before;

        watch->free_before = free_now;
        watch->given_back = MIN(watch->given_back, free_now);
        if (MIN(free_now, before) > watch->given_back + MEMORY_KEEP) {
                malloc_trim(0);
                watch->given_back = mallinfo2().fordblks;
        }
        return free_now;
}
