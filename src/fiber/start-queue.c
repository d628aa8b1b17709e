/* SPDX-License-Identifier: Apache-2.0 */
#include "fiber/start-queue.h"

#include "util/hash.h"

struct StartKey {
        UT_hash_handle hh;
        TAILQ_ENTRY(StartKey) turn;
        TAILQ_HEAD(, StartItem) items;
        unsigned n;
        char name[];
};

void start_queue_init(StartQueue *queue) {
        *queue = (StartQueue){};
        TAILQ_INIT(&queue->turns);
}

static int find_key(StartQueue *queue, const char *name, StartKey **ret) {
        StartKey *key;

        HASH_FIND_STR(queue->keys, name, key);
        if (!key) {
                size_t size = strlen(name) + 1;
                _cleanup_free_ StartKey *new_key = calloc(1, sizeof(StartKey) + size);
                if (!new_key)
                        return -ENOMEM;
                memcpy(new_key->name, name, size);
                TAILQ_INIT(&new_key->items);
                HASH_ADD_STR(queue->keys, name, new_key);
                if (!HASH_WAS_ADDED(new_key))
                        return -ENOMEM;
                key = TAKE_PTR(new_key);
                TAILQ_INSERT_TAIL(&queue->turns, key, turn);
        }
        *ret = key;
        return 0;
}

int start_queue_add(StartQueue *queue, const char *key_name, unsigned max_per_key, StartItem *item) {
        StartKey *key;

        if (max_per_key == 0)
                return -EBUSY;
        int r = find_key(queue, key_name, &key);
        if (r < 0)
                return r;
        if (key->n >= max_per_key)
                return -EBUSY;
        TAILQ_INSERT_TAIL(&key->items, item, link);
        item->key = key;
        key->n++;
        queue->n++;
        return 0;
}

void start_queue_remove(StartQueue *queue, StartItem *item) {
        StartKey *key = TAKE_PTR(item->key);

        TAILQ_REMOVE(&key->items, item, link);
        queue->n--;
        if (--key->n > 0)
                return;
        TAILQ_REMOVE(&queue->turns, key, turn);
        HASH_DEL(queue->keys, key);
        free(key);
}

StartItem *start_queue_take(StartQueue *queue) {
        StartKey *key = TAILQ_FIRST(&queue->turns);
        if (!key)
                return NULL;
        StartItem *item = TAILQ_FIRST(&key->items);
        TAILQ_REMOVE(&queue->turns, key, turn);
        TAILQ_INSERT_TAIL(&queue->turns, key, turn);
        start_queue_remove(queue, item);
        return item;
}
