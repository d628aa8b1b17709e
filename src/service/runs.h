/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Calls that keep their order: those with the same `order` (Envelope.order) are what one connection of a client sends
 * one after the other to one place. They come and are begun in that order; and when one of them fails for a
 * reason that may pass, those behind it must fail too, or they would be done before it is tried again.
 *
 * An order is the run, 48 bits that no other has and that are not 0, and how often it was begun anew, 16 bits.
 * Whoever sends begins it anew once nothing that it sent before the failure can follow, and whoever serves
 * remembers here which ones have failed, and refuses what still comes of them: for as long as it may be under
 * way, and not more than so many. */

#include <stdbool.h>
#include <sys/queue.h>

#include "proto/schema.h"

#define RUNS_MAX 16384U /* runs that are remembered; beyond that the one that failed first is forgotten */
/* Longer than a call waits to be sent, and to be sent again. */
#define RUNS_REMEMBERED_USEC (60 * 1000 * 1000ULL)

typedef struct BrokenRun BrokenRun;

typedef struct Runs {
        BrokenRun *by_run; /* a hash */
        TAILQ_HEAD(, BrokenRun) oldest_first;
} Runs;

void runs_init(Runs *runs);
void runs_done(Runs *runs);

/* Calls of this order fail from now on, with this error. Nothing for 0. */
void runs_break(Runs *runs, uint64_t order, Sc__ErrorCode code);
/* What a call of this order fails with; ERROR_NONE: nothing before it has failed, or it was begun anew since. */
Sc__ErrorCode runs_check(Runs *runs, uint64_t order);
size_t runs_n(const Runs *runs);

/* --- whoever sends --- */

/* A new run. */
uint64_t order_new(void);
/* The same, begun anew. */
uint64_t order_again(uint64_t order);
