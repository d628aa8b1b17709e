/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A store in memory that grants what store.h promises and nothing beyond it, by a seed: for tests of what
 * stands on a store. With the same seed and the same submissions it does the same things in the same order.
 *
 *      _cleanup_(model_freep) Model *model = model_new(seed);
 *      model_use(model, "sqlite");               // the next store_open() with this kind is the model's
 *      model_set_faults(model, &(ModelFaults) {.reorder = true, .unknown = 10});
 *      … open the store, do things …
 *      model_crash(model);
 *      … close the store and what used it: nothing of that reaches the disk any more …
 *      … open it again: what was durable is there, and of what was under way, some …
 *
 * A model is the disk: it has the records of each StoreConfig.name, and outlives the stores that are opened
 * on it, one after the other. All of it runs on the store's event loop, without threads. */

#include "store/store-backend.h"

typedef struct Model Model;

typedef struct ModelFaults {
        /* Operations of different partitions, and reads, are carried out and completed in random order, the
         * reads of one submission at different moments. Otherwise in the order of their submission. */
        bool reorder;
        uint64_t max_delay_usec; /* an operation is begun after up to so long; 0: in the next iterations of
                                    the loop */

        /* Per cent of the operations. */
        unsigned
                refuse; /* -ENOTCONN, -ENOSPC (writes), -EIO or -ENOMEM, and nothing was done. (-EBUSY is the
                          * store's own: give it a small StoreConfig.max_queued) */
        unsigned unknown; /* writes: -EINPROGRESS, and it was done, or was not, or is done later */

        /* The process dies at this point, model_crash() by itself: point 2 n - 1 is before the n-th write
         * since model_set_faults() is carried out, 2 n after it and before its completion. 0: never. */
        uint64_t crash_point;
} ModelFaults;

Model *model_new(uint64_t seed);
/* No store may be open on it. */
Model *model_free(Model *model);
DEFINE_CLEANUP(Model *, model_free);

/* store_open() with this kind (a constant), "model" or that of another back end, opens this model from now on. */
void model_use(Model *model, const char *kind);

/* None at first. */
void model_set_faults(Model *model, const ModelFaults *faults);

/* The server is away: all that is submitted is answered -ENOTCONN, and store_is_connected() is false. */
void model_set_connected(Model *model, bool connected);
/* The disk is full: every write is answered -ENOSPC. */
void model_set_full(Model *model, bool full);

/* The process dies: each write under way is done or not, by the seed, or, if its outcome was unknown, may
 * still land after the next store_open(). The stores that are open get no more success, whatever was
 * submitted or is from now on: -EINPROGRESS or -ENOTCONN. Then the test lets go of everything that lives in
 * the process, store_close() included, and believes nothing of what that says. */
void model_crash(Model *model);
bool model_has_crashed(const Model *model); /* and no store was opened since */

/* Carries out what is unknown and has not landed: from here on nothing lands late. */
void model_settle(Model *model);

/* Past tense: how many writes were carried out since model_new(), to find crash points. */
uint64_t model_n_writes(const Model *model);
