/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a back end gives to the store, and the store to a back end.
 *
 * The store (store.c) checks and copies what is submitted, bounds it, and calls completions on the loop. A
 * back end owns threads and connections; it takes operations, sets r and the outcome, and hands each back
 * exactly once, from any thread. It hands writes (OPERATION_WRITE, OPERATION_APPEND) back in the order in
 * which it got them. */

#include "store/operation.h"

typedef struct Backend Backend;

typedef struct BackendClass {
        const char *kind; /* StoreConfig.kind */
        /* As store_open(). The back end may call store_finish() from then on. config does not outlive the
         * call, but the records it names do. */
        int (*open)(Backend **ret, Store *store, const StoreConfig *config);
        /* Carries out the writes it has, hands everything back, joins its threads, frees itself. */
        void (*close)(Backend *backend);
        void (*submit)(Backend *backend, Operation *operation);
        bool (*is_alive)(Backend *backend, uint64_t max_busy_usec);
} BackendClass;

extern const BackendClass sqlite_backend_class;

/* Hands operations back, in their order; the list is empty afterwards. Thread-safe. */
void store_finish(Store *store, OperationList *list);
/* For the statistics: a commit took so long. Thread-safe. */
void store_count_commit(Store *store, uint64_t usec);
