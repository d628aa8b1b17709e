/* SPDX-License-Identifier: Apache-2.0 */
#include "web/budget.h"

#include <malloc.h>

/* The heap is trimmed when less than this is left of a peak above it. */
#define TRIM_SIZE (2U << 20)

void budget_init(Budget *budget, size_t limit) {
        *budget = (Budget){.limit = limit};
        TAILQ_INIT(&budget->uses);
}

/* free() keeps what lies between blocks still in use; after a flood that is most of it. */
static void trim(Budget *budget) {
        budget->peak = MAX(budget->peak, budget->used);
        if (budget->peak < TRIM_SIZE || budget->used > budget->peak / 8)
                return;
        budget->peak = budget->used;
        malloc_trim(0);
}

static bool fits(const Budget *budget, const BudgetUse *use, size_t size) {
        return budget->limit == 0 || budget->used - use->size + size <= budget->limit;
}

/* The oldest but `use`. */
static BudgetUse *oldest(const Budget *budget, const BudgetUse *use) {
        BudgetUse *first = TAILQ_FIRST(&budget->uses);

        return first && first == use ? TAILQ_NEXT(first, entry) : first;
}

static int make_room(Budget *budget, const BudgetUse *use, size_t size) {
        while (!fits(budget, use, size)) {
                BudgetUse *victim = oldest(budget, use);
                if (!victim || size > budget->limit) {
                        budget->n_refused++;
                        return -ENOBUFS;
                }
                budget->n_evicted++;
                victim->evict(victim); /* which may free it */
        }
        return 0;
}

int budget_set(Budget *budget, BudgetUse *use, size_t size) {
        if (size > use->size) {
                int r = make_room(budget, use, size);
                if (r < 0)
                        return r;
        }
        if (use->size == 0 && size > 0)
                TAILQ_INSERT_TAIL(&budget->uses, use, entry);
        else if (use->size > 0 && size == 0)
                TAILQ_REMOVE(&budget->uses, use, entry);
        budget->used = budget->used - use->size + size;
        use->size = size;
        trim(budget);
        return 0;
}
