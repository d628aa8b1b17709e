/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Time: durations are microseconds (usec) everywhere inside, CLOCK_BOOTTIME for intervals; what users see
 * and what is stored is Unix time in milliseconds. Clocks of two hosts are never compared. */

#include <stdint.h>
#include <time.h>

#define USEC_PER_MSEC 1000ULL
#define USEC_PER_SEC 1000000ULL
#define NSEC_PER_USEC 1000ULL
#define USEC_INFINITY UINT64_MAX

static inline uint64_t now_usec(clockid_t clock) {
        struct timespec ts;
        clock_gettime(clock, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

/* For intervals and deadlines: goes on during suspend, never jumps. */
static inline uint64_t boottime_usec(void) {
        return now_usec(CLOCK_BOOTTIME);
}

/* For records: Unix time in milliseconds. */
static inline int64_t unix_msec(void) {
        return (int64_t) (now_usec(CLOCK_REALTIME) / USEC_PER_MSEC);
}
