/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "store/store-backend.h"
#include "util/fd-util.h"
#include "util/string-util.h"

static const BackendClass *const backend_classes[] = {&sqlite_backend_class};

struct Store {
        const BackendClass *class;
        Backend *backend;
        const MessageInfo *message_info; /* of Sc__Message, if the schema has it */
        sd_event_source *source;
        int event_fd; /* readable: something is in finished */
        unsigned max_queued, n_queued;
        bool closing;
        uint64_t n_reads, n_writes;

        pthread_mutex_t mutex;
        OperationList finished; /* under the mutex */

        _Atomic uint64_t n_commits, commit_usec_last, commit_usec_max;
};

void store_finish(Store *store, OperationList *list) {
        static const uint64_t one = 1;

        pthread_mutex_lock(&store->mutex);
        bool was_empty = TAILQ_EMPTY(&store->finished);
        TAILQ_CONCAT(&store->finished, list, link);
        bool wake = was_empty && !TAILQ_EMPTY(&store->finished);
        pthread_mutex_unlock(&store->mutex);
        /* Fails only when the counter is full, and then the loop is awake already. */
        if (wake)
                (void) !write(store->event_fd, &one, sizeof(one));
}

void store_count_commit(Store *store, uint64_t usec) {
        /* Only the writer counts, so load and store need not be one step. */
        atomic_fetch_add(&store->n_commits, 1);
        atomic_store(&store->commit_usec_last, usec);
        if (usec > atomic_load(&store->commit_usec_max))
                atomic_store(&store->commit_usec_max, usec);
}

static void complete_finished(Store *store) {
        OperationList list = TAILQ_HEAD_INITIALIZER(list);

        pthread_mutex_lock(&store->mutex);
        TAILQ_CONCAT(&list, &store->finished, link);
        pthread_mutex_unlock(&store->mutex);
        while (!TAILQ_EMPTY(&list)) {
                _cleanup_(operation_freep) Operation *operation = TAILQ_FIRST(&list);
                TAILQ_REMOVE(&list, operation, link);
                store->n_queued--;
                operation_complete(operation);
        }
}

static int on_finished(_unused_ sd_event_source *source, int fd, _unused_ uint32_t revents, void *userdata) {
        uint64_t count;

        (void) !read(fd, &count, sizeof(count));
        complete_finished(userdata);
        return 0;
}

static int check_records(Store *store, const MessageInfo *const *records) {
        for (const MessageInfo *const *info = records; *info; info++) {
                int r = record_check(*info);
                if (r < 0)
                        return r;
                if ((*info)->descriptor == &sc__message__descriptor)
                        store->message_info = *info;
        }
        return 0;
}

static const BackendClass *find_class(const char *kind) {
        FOREACH_ARRAY(class, backend_classes, ELEMENTSOF(backend_classes))
                if (streq((*class)->kind, kind))
                        return *class;
        return NULL;
}

int store_open(Store **ret, sd_event *event, const StoreConfig *config) {
        _cleanup_(store_closep) Store *store = new0(Store, 1);

        if (!store)
                return -ENOMEM;
        pthread_mutex_init(&store->mutex, NULL);
        TAILQ_INIT(&store->finished);
        store->max_queued = config->max_queued;
        store->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (store->event_fd < 0)
                return -errno;
        store->class = find_class(config->kind);
        if (!store->class || config->n_readers == 0 || config->batch_operations == 0)
                return -EINVAL;
        int r = check_records(store, config->records);
        if (r < 0)
                return r;
        r = sd_event_add_io(event, &store->source, store->event_fd, EPOLLIN, on_finished, store);
        if (r < 0)
                return r;
        r = store->class->open(&store->backend, store, config);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(store);
        return 0;
}

Store *store_close(Store *store) {
        if (!store)
                return NULL;
        store->closing = true;
        if (store->backend)
                store->class->close(store->backend);
        complete_finished(store);
        sd_event_source_disable_unref(store->source);
        safe_close(store->event_fd);
        pthread_mutex_destroy(&store->mutex);
        free(store);
        return NULL;
}

bool store_is_alive(Store *store, uint64_t max_busy_usec) {
        return store->class->is_alive(store->backend, max_busy_usec);
}

void store_get_statistics(Store *store, StoreStatistics *ret) {
        *ret = (StoreStatistics){
                .reads = store->n_reads,
                .writes = store->n_writes,
                .queued = store->n_queued,
                .commits = atomic_load(&store->n_commits),
                .commit_usec_last = atomic_load(&store->commit_usec_last),
                .commit_usec_max = atomic_load(&store->commit_usec_max),
        };
}

static int check_room(const Store *store) {
        if (store->closing)
                return -ECANCELED;
        return store->n_queued < store->max_queued ? 0 : -EBUSY;
}

static void submit(Store *store, Operation *operation, void *userdata) {
        operation->userdata = userdata;
        store->n_queued++;
        store->class->submit(store->backend, operation);
}

int store_write(Store *store, const StoreWrite *writes, size_t n, StoreWriteDone done, void *userdata) {
        Operation *operation;

        int r = check_room(store);
        if (r < 0)
                return r;
        r = operation_new_write(&operation, writes, n);
        if (r < 0)
                return r;
        operation->write.done = done;
        store->n_writes++;
        submit(store, operation, userdata);
        return 0;
}

int store_append(Store *store, const char *conversation, uint64_t after_seq, Sc__Message *const *messages,
        size_t n, StoreAppendDone done, void *userdata) {
        Operation *operation;

        if (!store->message_info)
                return -EOPNOTSUPP;
        int r = check_room(store);
        if (r < 0)
                return r;
        r = operation_new_append(&operation, store->message_info, conversation, after_seq, messages, n);
        if (r < 0)
                return r;
        operation->append.done = done;
        store->n_writes++;
        submit(store, operation, userdata);
        return 0;
}

int store_read(Store *store, const StoreRead *reads, size_t n, StoreReadDone done, void *userdata) {
        Operation *operation;

        int r = check_room(store);
        if (r < 0)
                return r;
        r = operation_new_read(&operation, reads, n);
        if (r < 0)
                return r;
        operation->read.done = done;
        store->n_reads++;
        submit(store, operation, userdata);
        return 0;
}

int store_get(Store *store, const MessageInfo *info, const ProtobufCMessage *key, StoreReadDone done,
        void *userdata) {
        const StoreRead read = {.info = info, .from = key, .n_prefix = info->record->key.n_fields};

        return store_read(store, &read, 1, done, userdata);
}

int store_check(Store *store, StoreCheckDone done, void *userdata) {
        Operation *operation;

        int r = check_room(store);
        if (r < 0)
                return r;
        r = operation_new_check(&operation);
        if (r < 0)
                return r;
        operation->check.done = done;
        submit(store, operation, userdata);
        return 0;
}
