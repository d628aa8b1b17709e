/* SPDX-License-Identifier: Apache-2.0 */
#include "fiber/start-queue.h"

#include "util/hash.h"

struct StartKey {
        UT_hash_handle hh;
        TAILQ_ENTRY(StartKey) turn;
        TAILQ_HEAD(, StartItem) items;
        unsigned n, n_running;
        char name[];
};

void start_queue_init(StartQueue *queue, unsigned max_running_per_key) {
        *queue = (StartQueue){.max_running_per_key = max_running_per_key};
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
        if (key->n == 0)
                TAILQ_INSERT_TAIL(&queue->turns, key, turn);
        TAILQ_INSERT_TAIL(&key->items, item, link);
        item->key = key;
        key->n++;
        queue->n++;
        return 0;
}

static void free_if_unused(StartQueue *queue, StartKey *key) {
        if (key->n > 0 || key->n_running > 0)
                return;
        HASH_DEL(queue->keys, key);
        free(key);
}

static StartKey *unlink_item(StartQueue *queue, StartItem *item) {
        StartKey *key = TAKE_PTR(item->key);

        TAILQ_REMOVE(&key->items, item, link);
        queue->n--;
        if (--key->n == 0)
                TAILQ_REMOVE(&queue->turns, key, turn);
        return key;
}

void start_queue_remove(StartQueue *queue, StartItem *item) {
        free_if_unused(queue, unlink_item(queue, item));
}

static StartItem *find_next(const StartQueue *queue, bool (*may)(const StartItem *item)) {
        const StartKey *key;

        TAILQ_FOREACH(key, &queue->turns, turn) {
                StartItem *first = TAILQ_FIRST(&key->items);
                bool enough = queue->max_running_per_key > 0 && key->n_running >= queue->max_running_per_key;
                if (!enough && (!may || may(first)))
                        return first;
        }
        return NULL;
}

StartItem *start_queue_take(StartQueue *queue, bool (*may)(const StartItem *item)) {
        StartItem *item = find_next(queue, may);

        if (!item)
                return NULL;
        StartKey *key = item->key;
        TAILQ_REMOVE(&queue->turns, key, turn);
        TAILQ_INSERT_TAIL(&queue->turns, key, turn);
        unlink_item(queue, item);
        if (queue->max_running_per_key > 0) {
                key->n_running++;
                item->key = key;
        } else
                free_if_unused(queue, key);
        return item;
}

void start_queue_put_back(StartQueue *queue, StartItem *item) {
        StartKey *key = item->key;

        if (key->n == 0)
                TAILQ_INSERT_HEAD(&queue->turns, key, turn);
        TAILQ_INSERT_HEAD(&key->items, item, link);
        key->n_running--;
        key->n++;
        queue->n++;
}

void start_queue_end(StartQueue *queue, StartItem *item) {
        StartKey *key = TAKE_PTR(item->key);

        key->n_running--;
        free_if_unused(queue, key);
}
