/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/memory.h"

/* Sanitizers have an allocator of their own. */
#if defined(__SANITIZE_ADDRESS__)
#define OWN_ALLOCATOR 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OWN_ALLOCATOR 1
#endif
#endif

#define BLOCK 2000U
#define N_BLOCKS 50000U /* a hundred megabytes */

static size_t resident(void) {
        unsigned long size, pages;
        FILE *file = fopen("/proc/self/statm", "re");

        assert_non_null(file);
        assert_int_equal(fscanf(file, "%lu %lu", &size, &pages), 2);
        fclose(file);
        return pages * (size_t) sysconf(_SC_PAGESIZE);
}

static void *blocks[N_BLOCKS];

/* Takes a hundred megabytes, and frees most of it, but for a block here and there. */
static void peak(void) {
        for (size_t i = 0; i < N_BLOCKS; i++) {
                if (!blocks[i])
                        assert_non_null(blocks[i] = malloc(BLOCK));
                memset(blocks[i], 'x', BLOCK);
        }
        for (size_t i = 0; i < N_BLOCKS; i++)
                if (i % 100 != 99) {
                        free(blocks[i]);
                        blocks[i] = NULL;
                }
}

/* The second time the heap has as much free as before, but it has pages again. */
static void test_given_back(void **state) {
        MemoryWatch watch = {};
        size_t before = resident();

        (void) memory_give_back(&watch);
        for (int round = 0; round < 2; round++) {
                peak();
#ifndef OWN_ALLOCATOR
                size_t high = resident();
                assert_true(high > before + N_BLOCKS * BLOCK / 2);
                assert_true(memory_give_back(&watch) > MEMORY_KEEP);
                assert_true(resident() > high - high / 4); /* it may be wanted again at once */
                assert_true(memory_give_back(&watch) > MEMORY_KEEP);
                assert_true(resident() < before + N_BLOCKS * BLOCK / 4);
#else
                (void) memory_give_back(&watch);
#endif
        }
        for (size_t i = 0; i < N_BLOCKS; i++)
                free(blocks[i]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_given_back),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
