/* SPDX-License-Identifier: Apache-2.0 */
#include "service/limiter.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/queue.h>

#include "util/hash.h"
#include "util/time-util.h"
#include "util/token-bucket.h"

#define MAX_TAKES 4U
#define MAX_FORGOTTEN 2U /* by one take, so that none takes long */

typedef struct Entry {
        TokenBucket bucket;
        uint64_t full_usec; /* when it will be full, and may be forgotten */
        UT_hash_handle hh;
        TAILQ_ENTRY(Entry) by_use;
        char key[];
} Entry;

struct Limiter {
        Entry *entries;
        TAILQ_HEAD(EntryList, Entry) by_use; /* used longest ago first */
        unsigned max_entries;
};

int limiter_new(Limiter **ret, unsigned max_entries) {
        Limiter *limiter = new0(Limiter, 1);
        if (!limiter)
                return -ENOMEM;
        TAILQ_INIT(&limiter->by_use);
        limiter->max_entries = max_entries;
        *ret = limiter;
        return 0;
}

static void drop_entry(Limiter *limiter, Entry *entry) {
        HASH_DEL(limiter->entries, entry);
        TAILQ_REMOVE(&limiter->by_use, entry, by_use);
        free(entry);
}

Limiter *limiter_free(Limiter *limiter) {
        if (!limiter)
                return NULL;
        while (!TAILQ_EMPTY(&limiter->by_use))
                drop_entry(limiter, TAILQ_FIRST(&limiter->by_use));
        free(limiter);
        return NULL;
}

unsigned limiter_n_entries(const Limiter *limiter) {
        return HASH_COUNT(limiter->entries);
}

static void forget_full(Limiter *limiter, const Entry *but, uint64_t now) {
        for (unsigned i = 0; i < MAX_FORGOTTEN; i++) {
                Entry *oldest = TAILQ_FIRST(&limiter->by_use);
                if (!oldest || oldest == but || oldest->full_usec > now)
                        return;
                drop_entry(limiter, oldest);
        }
}

static Entry *add_entry(Limiter *limiter, const char *key, size_t size) {
        if (HASH_COUNT(limiter->entries) >= limiter->max_entries)
                drop_entry(limiter, TAILQ_FIRST(&limiter->by_use));
        Entry *entry = calloc(1, sizeof(Entry) + size + 1);
        if (!entry)
                return NULL;
        memcpy(entry->key, key, size);
        HASH_ADD_KEYPTR(hh, limiter->entries, entry->key, size, entry);
        if (!HASH_WAS_ADDED(entry)) {
                free(entry);
                return NULL;
        }
        TAILQ_INSERT_TAIL(&limiter->by_use, entry, by_use);
        return entry;
}

static Entry *use_entry(const LimiterTake *take, uint64_t now) {
        Limiter *limiter = take->limiter;
        size_t size = strlen(take->key);
        Entry *entry;

        HASH_FIND(hh, limiter->entries, take->key, size, entry);
        if (!entry)
                entry = add_entry(limiter, take->key, size);
        else if (TAILQ_NEXT(entry, by_use)) {
                TAILQ_REMOVE(&limiter->by_use, entry, by_use);
                TAILQ_INSERT_TAIL(&limiter->by_use, entry, by_use);
        }
        if (entry)
                forget_full(limiter, entry, now);
        return entry;
}

int limiter_take(const LimiterTake *takes, size_t n, uint64_t now, uint64_t *ret_wait_usec) {
        Entry *entries[MAX_TAKES] = {};
        uint64_t wait = 0;

        assert_se(n <= MAX_TAKES);
        for (size_t i = 0; i < n; i++) {
                const LimiterTake *take = &takes[i];
                if (take->rate <= 0)
                        continue;
                entries[i] = use_entry(take, now);
                if (!entries[i])
                        return -ENOMEM;
                wait = MAX(wait, token_bucket_wait(&entries[i]->bucket, take->rate, take->burst,
                                         MIN(take->n, take->burst), now));
        }
        for (size_t i = 0; i < n; i++) {
                const LimiterTake *take = &takes[i];
                if (!entries[i])
                        continue;
                if (wait == 0)
                        (void) token_bucket_take(&entries[i]->bucket, take->rate, take->burst,
                                MIN(take->n, take->burst), now);
                entries[i]->full_usec = now + token_bucket_wait(&entries[i]->bucket, take->rate, take->burst,
                                                      take->burst, now);
        }
        if (wait > 0)
                *ret_wait_usec = wait;
        return wait == 0;
}

uint64_t limiter_wait(const LimiterTake *take, uint64_t now) {
        Entry *entry;

        HASH_FIND(hh, take->limiter->entries, take->key, strlen(take->key), entry);
        return entry ? token_bucket_wait(
                               &entry->bucket, take->rate, take->burst, MIN(take->n, take->burst), now)
                     : 0;
}

void address_limit_key(const char *address, char out[static ADDRESS_KEY_SIZE]) {
        struct in6_addr ip;

        if (inet_pton(AF_INET6, address, &ip) == 1 && !IN6_IS_ADDR_V4MAPPED(&ip)) {
                memset(ip.s6_addr + 8, 0, 8);
                if (inet_ntop(AF_INET6, &ip, out, ADDRESS_KEY_SIZE))
                        return;
        }
        snprintf(out, ADDRESS_KEY_SIZE, "%s", address);
}
