/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/seq-cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include "util/id.h"

#define N_SETS 4096U
#define N_WAYS 4U
#define NAME_SIZE 80U /* longer names are not remembered; ids have up to 64 bytes */

typedef struct Entry {
        uint64_t seq;
        uint32_t used_at;
        uint32_t generation; /* another one than the cache's: empty */
        char name[NAME_SIZE];
} Entry;

struct SeqCache {
        uint32_t clock, generation;
        Entry *latest; /* an append looks up its conversation, and then puts it */
        Entry sets[N_SETS][N_WAYS]; /* 1.5 MiB, of which only what is touched becomes resident */
};

SeqCache *seq_cache_new(void) {
        SeqCache *cache = new0(SeqCache, 1);
        if (cache)
                cache->generation = 1;
        return cache;
}

SeqCache *seq_cache_free(SeqCache *cache) {
        return mfree(cache);
}

static Entry *find(SeqCache *cache, Entry *set, const char *conversation) {
        FOREACH_ARRAY(entry, set, N_WAYS)
                if (entry->generation == cache->generation && strcmp(entry->name, conversation) == 0) {
                        entry->used_at = ++cache->clock;
                        return entry;
                }
        return NULL;
}

bool seq_cache_get(SeqCache *cache, const char *conversation, uint64_t *ret_seq) {
        Entry *entry = find(cache, cache->sets[shard_of(conversation, N_SETS)], conversation);
        if (!entry)
                return false;
        cache->latest = entry;
        *ret_seq = entry->seq;
        return true;
}

static Entry *find_oldest(SeqCache *cache, Entry *set) {
        Entry *oldest = set;

        FOREACH_ARRAY(entry, set, N_WAYS) {
                if (entry->generation != cache->generation)
                        return entry;
                if (cache->clock - entry->used_at > cache->clock - oldest->used_at)
                        oldest = entry;
        }
        return oldest;
}

void seq_cache_put(SeqCache *cache, const char *conversation, uint64_t seq) {
        size_t size = strlen(conversation) + 1;
        if (size > NAME_SIZE)
                return;
        Entry *latest = cache->latest;
        if (latest && latest->generation == cache->generation && strcmp(latest->name, conversation) == 0) {
                latest->seq = seq;
                return;
        }
        Entry *set = cache->sets[shard_of(conversation, N_SETS)];
        Entry *entry = find(cache, set, conversation);
        if (!entry) {
                entry = find_oldest(cache, set);
                memcpy(entry->name, conversation, size);
                entry->generation = cache->generation;
                entry->used_at = ++cache->clock;
        }
        entry->seq = seq;
}

void seq_cache_clear(SeqCache *cache) {
        /* After 2^32 rounds an entry of long ago would count as valid: then really empty it. */
        if (++cache->generation == 0) {
                memset(cache->sets, 0, sizeof(cache->sets));
                cache->generation = 1;
        }
}

void seq_cache_give_back(SeqCache *cache) {
        uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);
        uintptr_t begin = ((uintptr_t) cache->sets + page - 1) & ~(page - 1);
        uintptr_t end = (uintptr_t) (cache + 1) & ~(page - 1);

        /* The entries become zeros, which are no generation, or stay what they are: cleared. */
        seq_cache_clear(cache);
        (void) madvise((void *) begin, end - begin, MADV_DONTNEED);
}
