/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The memory that peers who are not signed in may hold, all of them together: requests whose head or body is
 * not complete, WebSockets before their first message is accepted. Whoever holds some embeds a BudgetUse and
 * says how much it is whenever that changes. Beyond the limit those go who have held something for longest:
 * an honest request is complete within milliseconds, so it is hardly ever among them.
 *
 * What was held comes back to the system: after a flood the heap is trimmed. */

#include <stdbool.h>
#include <sys/queue.h>

#include "util/macro.h"

typedef struct BudgetUse BudgetUse;
typedef TAILQ_HEAD(BudgetUseList, BudgetUse) BudgetUseList;

typedef struct Budget {
        size_t limit; /* bytes; 0: none. May change at any time, and holds from the next budget_set() on */
        size_t used;
        uint64_t n_evicted, n_refused;
        size_t peak; /* since the heap was trimmed */
        BudgetUseList uses; /* the oldest first */
} Budget;

struct BudgetUse {
        /* Frees what is held, sets it to 0 by budget_set(), and tells the peer why. Called from budget_set()
         * of another; must not call it for more than that. */
        void (*evict)(BudgetUse *use);
        size_t size;
        TAILQ_ENTRY(BudgetUse) entry;
};

void budget_init(Budget *budget, size_t limit);
/* What `use` holds now; 0: nothing, as before it is freed. When it grows beyond the limit older uses are
 * evicted until it fits; -ENOBUFS if it does not then, and the use stays as it was. */
int budget_set(Budget *budget, BudgetUse *use, size_t size);
