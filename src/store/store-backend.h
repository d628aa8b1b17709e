/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a back end gives to the store, and the store to a back end.
 *
 * The store (store.c) checks and copies what is submitted, bounds it, and calls completions on the loop. A
 * back end owns threads and connections; it takes operations, sets r and the outcome, and hands each back
 * exactly once, from any thread. It hands those that have a partition back in the order in which it got
 * them, for each partition.
 *
 * Back ends are modules, so that a daemon maps only the library it uses: store_open() loads
 * STONECHAT_MODULE_DIRECTORY/store-KIND.so (an environment variable of that name, for the build tree, comes
 * first), which defines store_backend_class; one of another release than the program is refused. Tests
 * that look inside a back end link it, and say so with store_register_backend(). */

#include "store/operation.h"

typedef struct Backend Backend;

typedef struct BackendClass {
        const char *kind; /* StoreConfig.kind */
        const char *version; /* of the release: STONECHAT_VERSION, which a module and its program share */
        /* As store_open(). The back end may call store_finish() from then on. config does not outlive the
         * call, but the records it names do. The event loop is the store's. */
        int (*open)(Backend **ret, Store *store, sd_event *event, const StoreConfig *config);
        /* Carries out the writes it has, hands everything back, joins its threads, frees itself. */
        void (*close)(Backend *backend);
        void (*submit)(Backend *backend, Operation *operation);
        bool (*is_alive)(Backend *backend, uint64_t max_busy_usec);
        bool (*is_connected)(Backend *backend); /* NULL: always */
} BackendClass;

#define STORE_BACKEND_SYMBOL "store_backend_class"
extern const BackendClass store_backend_class __attribute__((visibility("default")));

/* store_open() takes this one for its kind instead of a module. */
void store_register_backend(const BackendClass *class);

/* Hands operations back, in their order; the list is empty afterwards. Thread-safe. Completions come on the
 * loop, never from inside. */
void store_finish(Store *store, OperationList *list);
/* For the statistics: a commit took so long. Thread-safe. */
void store_count_commit(Store *store, uint64_t usec);
