/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A stream of appends that goes on after failures as the group role would, remembers what was acknowledged,
 * and can tell afterwards whether the store kept its promises. */

#include "fixture.h"

#define WORKLOAD_CONVERSATIONS 3U
#define WORKLOAD_MESSAGES 15U

/* The schema that it needs: fewer tables, fewer moments to fail at. */
extern const MessageInfo *const workload_records[];

typedef struct Workload {
        uint64_t last_seq[WORKLOAD_CONVERSATIONS];
        uint64_t acknowledged[WORKLOAD_MESSAGES]; /* the seq of each message, or 0 */
        unsigned n_failures;
} Workload;

/* Opens the store, sends each message until it is acknowledged or max_tries are over, closes and opens the
 * store in the middle. Leaves the store closed. */
void workload_run(Workload *w, Fixture *f, unsigned max_tries);
/* On an open store: all that was acknowledged is where it was said to be, nothing is there twice, and no
 * number is left out. */
void workload_verify(const Workload *w, Fixture *f);
