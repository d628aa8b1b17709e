/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A deliverer on a store, with a dispatcher that notes what it gets and answers as the test says. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "schema-tables.h"
#include "service/intents.h"
#include "store-model.h"
#include "util/time-util.h"

#define MAX_DELIVERIES 3000U
#define TIMEOUT_USEC (30 * USEC_PER_SEC)

typedef struct Delivery {
        char source[32], target[32], session[32];
        uint64_t number;
        uint64_t at_usec;
} Delivery;

extern const char *kind; /* of the store that the tests run on */
extern bool no_memory; /* calloc() fails */

extern struct fixture {
        sd_event *event;
        Model *model;
        char directory[64];
        FiberPool *fibers;
        Store *store;
        Intents *intents;
        Delivery deliveries[MAX_DELIVERIES]; /* that reached the dispatcher */
        unsigned n_deliveries;
        Sc__ErrorCode (*answer)(const Delivery *delivery); /* NULL: all is well */
        bool held; /* nothing is answered */
        unsigned n_held, max_held;
        FiberQueue waiting;
        bool done; /* of on_fiber() */
} f;

/* n intents of a source, one write each, named by their place. */
typedef struct Cause {
        const char *source;
        const char *const *targets; /* of the first, the second …, again and again */
        unsigned n_targets, n;
        const MethodInfo *method;
        int r;
        StoreWritten written;
} Cause;

/* cmocka's: with a deliverer, or only the store. */
int setup(void **state);
int setup_empty(void **state);
int teardown(void **state);

void start_without_intents(void);
void start_intents(void);
void stop(void);

void run_until(bool (*condition)(void));
void run_until_delivered(unsigned n);
void on_fiber(void (*run)(void *userdata), void *userdata);

bool is_empty(void);
uint64_t statistic(const char *name);
/* Of a Cause; on a fiber. */
void store_causes(void *userdata);
/* The same, of n for one target. */
void cause(const char *source, const char *target, unsigned n);
/* Intents that are in the store. */
unsigned rows(void);
/* Deliveries from that source, or any, to that target, or any. */
unsigned count(const char *source, const char *target);
void assert_in_order(const char *source, const char *target, unsigned n);
