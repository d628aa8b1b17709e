/* SPDX-License-Identifier: Apache-2.0 */
#include "api/limiter.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/queue.h>

#include "util/hash.h"
#include "util/token-bucket.h"

typedef struct Entry {
        TokenBucket bucket;
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

int limiter_take(Limiter *limiter, const char *key, uint64_t rate, uint64_t burst, uint64_t now) {
        size_t size = strlen(key);
        Entry *entry;

        if (rate == 0)
                return 1;
        HASH_FIND(hh, limiter->entries, key, size, entry);
        if (entry) {
                TAILQ_REMOVE(&limiter->by_use, entry, by_use);
                TAILQ_INSERT_TAIL(&limiter->by_use, entry, by_use);
        } else
                entry = add_entry(limiter, key, size);
        if (!entry)
                return -ENOMEM;
        return token_bucket_take(&entry->bucket, (double) rate / 60, (double) burst, 1, now);
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
