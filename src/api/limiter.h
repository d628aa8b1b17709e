/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Token buckets by name: of addresses, of accounts. At most max_entries are kept; beyond that the one unused
 * for longest makes room, which forgives it a little but keeps memory bounded. */

#include <stdbool.h>
#include <stdint.h>

#include "util/macro.h"

typedef struct Limiter Limiter;

int limiter_new(Limiter **ret, unsigned max_entries);
Limiter *limiter_free(Limiter *limiter);
DEFINE_CLEANUP(Limiter *, limiter_free);
unsigned limiter_n_entries(const Limiter *limiter);

/* May `key` do it once more? 1, 0, or -ENOMEM. rate: a minute, 0: always. `now`: boottime_usec(). */
int limiter_take(Limiter *limiter, const char *key, uint64_t rate, uint64_t burst, uint64_t now);

/* What the limits of an address go by: of IPv6 the /64, which one customer has to himself; anything else as
 * it stands. */
#define ADDRESS_KEY_SIZE 64U
void address_limit_key(const char *address, char out[static ADDRESS_KEY_SIZE]);
