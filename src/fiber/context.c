/* SPDX-License-Identifier: Apache-2.0 */

/* glibc's longjmp() of _FORTIFY_SOURCE ends the process with "longjmp causes uninitialized stack frame" when
 * the target is a deeper frame of what it takes for one stack. With stacks of our own any order of addresses
 * is right, so this file is compiled without that check. */
#undef _FORTIFY_SOURCE

#include "fiber/context.h"

#include <ucontext.h>

#include "util/macro.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif

#ifdef HAVE_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

/* Frames that are left by setcontext() never end, so their red zones would stay behind. */
#define _unsanitized_ __attribute__((no_sanitize_address))

/* Whom the switch under way leaves, and whose stack is entered: what the other side of it cannot be passed.
 */
static _Thread_local _unused_ Context *departing;
static _Thread_local Context *entering;

static void start_switch(_unused_ Context *from, _unused_ Context *to, _unused_ bool park) {
#ifdef HAVE_ASAN
        departing = from;
        __sanitizer_start_switch_fiber(park ? NULL : &from->fake_stack, to->stack, to->size);
#endif
}

static void finish_switch(_unused_ Context *here) {
#ifdef HAVE_ASAN
        const void *stack;
        size_t size;

        __sanitizer_finish_switch_fiber(here->fake_stack, &stack, &size);
        here->fake_stack = NULL;
        /* How the thread's own stack is learned: whoever is entered is told where the switch came from. */
        departing->stack = (void *) stack;
        departing->size = size;
#endif
}

_unsanitized_ static void enter(void) {
        finish_switch(entering);
        entering->main(entering->userdata);
        assert_se(false);
}

_unsanitized_ static void enter_stack(Context *context) {
        ucontext_t start;

        assert_se(getcontext(&start) == 0);
        start.uc_stack.ss_sp = context->stack;
        start.uc_stack.ss_size = context->size;
        start.uc_link = NULL;
        makecontext(&start, enter, 0);
        context->entered = true;
        entering = context;
        setcontext(&start);
        assert_se(false);
}

_unsanitized_ static void jump(Context *to) {
        if (to->entered)
                _longjmp(to->registers, 1);
        enter_stack(to);
}

void context_init(Context *context, void *stack, size_t size, void (*main)(void *userdata), void *userdata) {
        *context = (Context){.stack = stack, .size = size, .main = main, .userdata = userdata};
}

_unsanitized_ void context_switch(Context *from, Context *to) {
        from->entered = true;
        start_switch(from, to, false);
        if (_setjmp(from->registers) == 0)
                jump(to);
        finish_switch(from);
}

_unsanitized_ void context_park(Context *from, Context *to) {
        start_switch(from, to, true);
        if (_setjmp(from->registers) == 0)
                jump(to);
        finish_switch(from);
}
