/* SPDX-License-Identifier: Apache-2.0 */
#include "util/memory.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "util/fd-util.h"

/* Of the process; 0 if the kernel does not say. */
static size_t resident(void) {
        _cleanup_close_ int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
        unsigned long pages;
        char text[128];

        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return 0;
        text[n] = 0;
        return sscanf(text, "%*u %lu", &pages) == 1 ? pages * (size_t) sysconf(_SC_PAGESIZE) : 0;
}

void memory_share_heap(void) {
        (void) mallopt(M_ARENA_MAX, 1);
}

size_t memory_give_back(MemoryWatch *watch) {
        MemoryLook now = {mallinfo2().fordblks, resident()}, before = watch->before;

        watch->before = now;
        watch->base = MIN(watch->base, now.resident);
        if (MIN(now.free, before.free) <= MEMORY_KEEP ||
                MIN(now.resident, before.resident) <= watch->base + MEMORY_KEEP)
                return now.free;
        malloc_trim(0);
        watch->before.resident = watch->base = resident();
        return now.free;
}
