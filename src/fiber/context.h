/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where a function on a stack of its own stands, and the switch from one to another: a _setjmp() and a
 * _longjmp(), some 10 ns each way. makecontext() and setcontext(), which make a system call for the signal
 * mask, only enter a stack for the first time. AddressSanitizer is told of each switch. */

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct Context {
        jmp_buf registers;
        bool entered;
        void *stack; /* its lowest address. Of the thread's own: only known to AddressSanitizer */
        size_t size;
        void *fake_stack; /* AddressSanitizer's */
        void (*main)(void *userdata); /* never returns: it switches away */
        void *userdata;
} Context;

/* The thread's own stack: {}. */
void context_init(Context *context, void *stack, size_t size, void (*main)(void *userdata), void *userdata);

/* Goes to `to`, and returns when somebody comes back to `from`, the context that runs now. */
void context_switch(Context *from, Context *to);
/* The same for a main() that has nothing on its stack but itself: it may never be resumed. */
void context_park(Context *from, Context *to);
