/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What every wait is made of. */

#include "fiber/fiber.h"

/* Gives the thread back until fiber_wake(), or, unless `fully`, fiber_cancel(). Not on a fiber that is
 * cancelled already, unless `fully`. Whoever waits for something looks whether it is there: he is also woken
 * when `usec` is over (UINT64_MAX: never). True if that was it. */
bool fiber_suspend(uint64_t usec, bool fully);
/* Lets the fiber go on: at once if the loop calls it. It must be suspended; twice is as good as once. */
void fiber_wake(Fiber *fiber);
/* Between these two nothing is resumed: for waking many, when the first may change what is iterated over. */
void fiber_hold_resumptions(void);
void fiber_release_resumptions(void);
