/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Token buckets by name: of users, of addresses, of accounts that somebody tries to sign in to.
 *
 * A bucket that is full again tells nothing, so it is forgotten. At most max_entries are kept; beyond that the
 * one unused for longest makes room, which forgives it a little but keeps memory bounded. */

#include <stdbool.h>
#include <stdint.h>

#include "util/macro.h"

typedef struct Limiter Limiter;

int limiter_new(Limiter **ret, unsigned max_entries);
Limiter *limiter_free(Limiter *limiter);
DEFINE_CLEANUP(Limiter *, limiter_free);
unsigned limiter_n_entries(const Limiter *limiter);

/* What somebody wants of one limiter. */
typedef struct LimiterTake {
        Limiter *limiter;
        const char *key;
        double rate; /* tokens a second; 0: no limit */
        double burst; /* tokens that fit */
        double n; /* that are taken; more than fit are as many as fit */
} LimiterTake;

/* Takes from all of them, each another limiter, or from none: 1; 0, and then *ret_wait_usec says when to try
 * again, at least 1; or -ENOMEM. `now`: boottime_usec(). */
int limiter_take(const LimiterTake *takes, size_t n, uint64_t now, uint64_t *ret_wait_usec);

/* After how many microseconds such a take could succeed, if nobody else takes any; 0: now. */
uint64_t limiter_wait(const LimiterTake *take, uint64_t now);

/* What the limits of an address go by: of IPv6 the /64, which one customer has to himself; anything else as
 * it stands. */
#define ADDRESS_KEY_SIZE 64U
void address_limit_key(const char *address, char out[static ADDRESS_KEY_SIZE]);
