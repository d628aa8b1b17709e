/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <stdatomic.h>

#include "schema-tables.h"
#include "store/store-backend.h"
#include "store/store-module.h"
#include "store/store-submit.h"
#include "util/string-util.h"

/* What every store has beside its owner's records. */
static const MessageInfo *const common_records[] = {
        &sc__intent__info,
        &sc__intent_counter__info,
        &sc__received__info,
};

struct Store {
        const BackendClass *class;
        Backend *backend;
        const MessageInfo **records; /* NULL-terminated */
        const MessageInfo *message_info; /* of Sc__Message, if the schema has it */
        WorkReturn *back;
        unsigned max_queued, n_queued;
        bool closing;
        uint64_t n_reads, n_writes;

        _Atomic uint64_t n_commits, commit_usec_last, commit_usec_max;
};

void store_finish(Store *store, OperationList *list) {
        WorkList items = TAILQ_HEAD_INITIALIZER(items);

        while (!TAILQ_EMPTY(list)) {
                Operation *operation = TAILQ_FIRST(list);
                TAILQ_REMOVE(list, operation, link);
                TAILQ_INSERT_TAIL(&items, &operation->work, link);
        }
        work_return_push(store->back, &items);
}

void store_count_commit(Store *store, uint64_t usec) {
        /* Only one thread counts, so load and store need not be one step. */
        atomic_fetch_add(&store->n_commits, 1);
        atomic_store(&store->commit_usec_last, usec);
        if (usec > atomic_load(&store->commit_usec_max))
                atomic_store(&store->commit_usec_max, usec);
}

static void on_finished(WorkItem *item, void *userdata) {
        _cleanup_(operation_freep) Operation *operation = CONTAINER_OF(item, Operation, work);
        Store *store = userdata;

        store->n_queued--;
        operation_complete(operation);
}

/* --- opening and closing --- */

static bool has_record(const MessageInfo *const *records, const MessageInfo *record) {
        for (; *records; records++)
                if (*records == record)
                        return true;
        return false;
}

static size_t count_records(const MessageInfo *const *records) {
        size_t n = 0;

        while (records[n])
                n++;
        return n;
}

/* The schema, with what every store has. */
static int set_records(Store *store, const MessageInfo *const *records) {
        size_t n = count_records(records);

        store->records = new0(const MessageInfo *, n + ELEMENTSOF(common_records) + 1);
        if (!store->records)
                return -ENOMEM;
        memcpy(store->records, records, n * sizeof(records[0]));
        FOREACH_ARRAY(record, common_records, ELEMENTSOF(common_records))
                if (!has_record(store->records, *record))
                        store->records[n++] = *record;
        FOREACH_ARRAY(info, store->records, n) {
                int r = record_check(*info);
                if (r < 0)
                        return r;
                if ((*info)->descriptor == &sc__message__descriptor)
                        store->message_info = *info;
        }
        return 0;
}

int store_open(Store **ret, sd_event *event, const StoreConfig *config) {
        _cleanup_(store_closep) Store *store = new0(Store, 1);

        if (!store)
                return -ENOMEM;
        if (isempty(config->name) || config->n_readers == 0 || config->batch_operations == 0)
                return -EINVAL;
        store->max_queued = config->max_queued;
        int r = store_find_backend(config->kind, &store->class);
        if (r < 0)
                return r;
        r = set_records(store, config->records);
        if (r < 0)
                return r;
        r = work_return_new(&store->back, event, on_finished, store);
        if (r < 0)
                return r;
        StoreConfig complete = *config;
        complete.records = store->records;
        r = store->class->open(&store->backend, store, event, &complete);
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
        if (store->back)
                work_return_flush(store->back);
        work_return_free(store->back);
        free(store->records);
        free(store);
        return NULL;
}

bool store_is_alive(Store *store, uint64_t max_busy_usec) {
        return store->class->is_alive(store->backend, max_busy_usec);
}

bool store_is_connected(Store *store) {
        return !store->class->is_connected || store->class->is_connected(store->backend);
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

unsigned store_field(const MessageInfo *info, const char *name) {
        int field = record_find_field(info, name);

        assert_se(field >= 0);
        return (unsigned) field;
}

const IndexInfo *store_index(const MessageInfo *info, const char *name) {
        FOREACH_ARRAY(index, info->record->indexes, info->record->n_indexes)
                if (streq(index->name, name))
                        return index;
        assert_se(false);
}

/* --- submissions --- */

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

int store_submit_write(
        Store *store, const StoreWrite *write, uint32_t *ret_name, StoreWriteDone done, void *userdata) {
        Operation *operation;

        int r = check_room(store);
        if (r < 0)
                return r;
        r = operation_new_write(&operation, write);
        if (r < 0)
                return r;
        *ret_name = operation->name;
        operation->write.done = done;
        store->n_writes++;
        submit(store, operation, userdata);
        return 0;
}

int store_write_start(Store *store, const StoreWrite *write, StoreWriteDone done, void *userdata) {
        uint32_t name;
        return store_submit_write(store, write, &name, done, userdata);
}

int store_append_start(Store *store, const StoreAppend *append, StoreAppendDone done, void *userdata) {
        Operation *operation;

        if (!store->message_info)
                return -EINVAL;
        int r = check_room(store);
        if (r < 0)
                return r;
        r = operation_new_append(&operation, store->message_info, append);
        if (r < 0)
                return r;
        operation->append.done = done;
        store->n_writes++;
        submit(store, operation, userdata);
        return 0;
}

int store_submit_delete_entries(Store *store, const char *conversation, uint64_t last_seq, unsigned limit,
        StoreDeleteEntriesDone done, void *userdata) {
        Operation *operation;

        if (!store->message_info)
                return -EINVAL;
        int r = check_room(store);
        if (r < 0)
                return r;
        r = operation_new_delete_entries(&operation, store->message_info, conversation, last_seq, limit);
        if (r < 0)
                return r;
        operation->delete_entries.done = done;
        store->n_writes++;
        submit(store, operation, userdata);
        return 0;
}

int store_read_start(Store *store, const StoreRead *reads, size_t n, StoreReadDone done, void *userdata) {
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

int store_submit_check(Store *store, StoreCheckDone done, void *userdata) {
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

const char *store_error_text(int r) {
        switch (r) {
        case -EINPROGRESS:
                return "it is not known whether it was done";
        case -ENOTCONN:
                return "the store cannot be reached";
        case -EBUSY:
        case -ENOBUFS:
                return "too much waits for the store";
        case -ENOSPC:
                return "the disk is full";
        case -ESTALE:
                return "somebody else has changed the record meanwhile";
        case -ECANCELED:
                return "the store is being closed";
        case -ETIMEDOUT:
                return "the time for it is over";
        case -EUCLEAN:
        case -EBADMSG:
                return "a record is damaged";
        default:
                return strerror(-r);
        }
}
