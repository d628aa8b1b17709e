/* SPDX-License-Identifier: Apache-2.0 */
#include "fiber/stack.h"

#include <sys/mman.h>

#ifdef HAVE_VALGRIND
#include <valgrind/valgrind.h>
#endif

/* AddressSanitizer puts red zones around every variable, and its reports need room. */
#if defined(__SANITIZE_ADDRESS__)
#define STACK_SIZE (1U << 20)
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STACK_SIZE (1U << 20)
#endif
#endif
#ifndef STACK_SIZE
#define STACK_SIZE (128U << 10)
#endif

/* Our own code is compiled to touch each page of a large frame in turn (-fstack-clash-protection), so one
 * page would do for it. The rest is for libraries that are not. */
#define GUARD_SIZE (64U << 10)

#define N_KEPT 16U /* free stacks, for ever */

static Stack *stack_free(Stack *stack) {
        if (stack->memory) {
#ifdef HAVE_VALGRIND
                VALGRIND_STACK_DEREGISTER(stack->valgrind_id);
#endif
                munmap(stack->memory, GUARD_SIZE + STACK_SIZE);
        }
        return mfree(stack);
}
DEFINE_CLEANUP(Stack *, stack_free);

static Stack *stack_new(void (*main)(void *stack)) {
        _cleanup_(stack_freep) Stack *stack = new0(Stack, 1);
        if (!stack)
                return NULL;
        uint8_t *memory = mmap(NULL, GUARD_SIZE + STACK_SIZE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED)
                return NULL;
        stack->memory = memory;
#ifdef HAVE_VALGRIND
        stack->valgrind_id =
                VALGRIND_STACK_REGISTER(memory + GUARD_SIZE, memory + GUARD_SIZE + STACK_SIZE - 1);
#endif
        if (mprotect(memory, GUARD_SIZE, PROT_NONE) < 0)
                return NULL;
        context_init(&stack->context, memory + GUARD_SIZE, STACK_SIZE, main, stack);
        return TAKE_PTR(stack);
}

void stack_pool_init(StackPool *pool, void (*main)(void *stack)) {
        *pool = (StackPool){.main = main};
        TAILQ_INIT(&pool->free);
}

static void unmap(StackPool *pool, unsigned n) {
        for (; n > 0; n--) {
                Stack *stack = TAILQ_LAST(&pool->free, StackList);
                TAILQ_REMOVE(&pool->free, stack, link);
                stack_free(stack);
                pool->n_free--;
                pool->n_mapped--;
        }
}

void stack_pool_done(StackPool *pool) {
        assert_se(pool->n_free == pool->n_mapped);
        unmap(pool, pool->n_free);
}

Stack *stack_pool_get(StackPool *pool) {
        Stack *stack = TAILQ_FIRST(&pool->free);

        if (!stack) {
                stack = stack_new(pool->main);
                if (stack)
                        pool->n_mapped++;
                return stack;
        }
        TAILQ_REMOVE(&pool->free, stack, link);
        pool->n_free--;
        pool->n_unused = MIN(pool->n_unused, pool->n_free);
        return stack;
}

void stack_pool_put(StackPool *pool, Stack *stack) {
        stack->user = NULL;
        TAILQ_INSERT_HEAD(&pool->free, stack, link);
        pool->n_free++;
}

bool stack_pool_has_surplus(const StackPool *pool) {
        return pool->n_free > N_KEPT;
}

void stack_pool_trim(StackPool *pool) {
        if (pool->n_unused > N_KEPT)
                unmap(pool, pool->n_unused - N_KEPT);
        pool->n_unused = pool->n_free;
}
