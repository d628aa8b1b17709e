/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Remembers the last sequence number of the conversations used last, of a bounded number of them. Set
 * associative: a conversation may stand in one of a few places, where it replaces the one used longest ago.
 */

#include <stdbool.h>
#include <stdint.h>

typedef struct SeqCache SeqCache;

SeqCache *seq_cache_new(void);
SeqCache *seq_cache_free(SeqCache *cache);

bool seq_cache_get(SeqCache *cache, const char *conversation, uint64_t *ret_seq);
/* May do nothing: it is a cache. */
void seq_cache_put(SeqCache *cache, const char *conversation, uint64_t seq);
void seq_cache_clear(SeqCache *cache);
/* Clears it, and its pages are no memory until they are touched again. */
void seq_cache_give_back(SeqCache *cache);
