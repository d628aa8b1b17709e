/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Lets the n-th allocation of this thread fail. For one test program: it defines the functions that the
 * linker's --wrap puts in the place of malloc() and calloc(), see failing_allocations in meson.build. What
 * shared libraries allocate does not come by here. */

#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

static _Thread_local unsigned allocation_to_fail; /* counts down; 0: none */

static inline int allocation_fails(void) {
        return allocation_to_fail > 0 && --allocation_to_fail == 0;
}

void *__wrap_malloc(size_t size) {
        return allocation_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        return allocation_fails() ? NULL : __real_calloc(n, size);
}
