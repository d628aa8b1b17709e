/* SPDX-License-Identifier: Apache-2.0 */
#include "service/runs.h"

#include "schema-tables.h"
#include "util/hash.h"
#include "util/id.h"
#include "util/time-util.h"

#define BEGUN_BITS 16

struct BrokenRun {
        uint64_t run;
        UT_hash_handle hh;
        TAILQ_ENTRY(BrokenRun) others;
        uint64_t forget_usec;
        uint16_t begun; /* these, and those begun before, have failed */
        Sc__ErrorCode code;
};

static uint64_t run_of(uint64_t order) {
        return order >> BEGUN_BITS;
}

static uint16_t begun_of(uint64_t order) {
        return (uint16_t) order;
}

void runs_init(Runs *runs) {
        *runs = (Runs){};
        TAILQ_INIT(&runs->oldest_first);
}

static void forget(Runs *runs, BrokenRun *broken) {
        HASH_DEL(runs->by_run, broken);
        TAILQ_REMOVE(&runs->oldest_first, broken, others);
        free(broken);
}

void runs_done(Runs *runs) {
        while (!TAILQ_EMPTY(&runs->oldest_first))
                forget(runs, TAILQ_FIRST(&runs->oldest_first));
}

size_t runs_n(const Runs *runs) {
        return HASH_COUNT(runs->by_run);
}

static void forget_old(Runs *runs, uint64_t now) {
        BrokenRun *oldest;

        while ((oldest = TAILQ_FIRST(&runs->oldest_first)) && oldest->forget_usec <= now)
                forget(runs, oldest);
}

static BrokenRun *find(const Runs *runs, uint64_t run) {
        BrokenRun *broken;

        HASH_FIND(hh, runs->by_run, &run, sizeof(run), broken);
        return broken;
}

/* Without memory for one more the oldest gives way, too. */
static BrokenRun *add(Runs *runs, uint64_t run) {
        BrokenRun *broken;

        if (runs_n(runs) >= RUNS_MAX)
                forget(runs, TAILQ_FIRST(&runs->oldest_first));
        while (!(broken = new0(BrokenRun, 1)) && !TAILQ_EMPTY(&runs->oldest_first))
                forget(runs, TAILQ_FIRST(&runs->oldest_first));
        if (!broken)
                return NULL;
        broken->run = run;
        HASH_ADD(hh, runs->by_run, run, sizeof(broken->run), broken);
        if (!HASH_WAS_ADDED(broken))
                return mfree(broken);
        TAILQ_INSERT_TAIL(&runs->oldest_first, broken, others);
        return broken;
}

void runs_break(Runs *runs, uint64_t order, Sc__ErrorCode code) {
        uint64_t now;
        BrokenRun *broken;

        if (order == 0)
                return;
        now = boottime_usec();
        forget_old(runs, now);
        broken = find(runs, run_of(order)) ?: add(runs, run_of(order));
        /* One that comes late from before it was begun anew changes nothing. */
        if (!broken || broken->begun > begun_of(order))
                return;
        broken->begun = begun_of(order);
        broken->code = code;
        broken->forget_usec = now + RUNS_REMEMBERED_USEC;
        TAILQ_REMOVE(&runs->oldest_first, broken, others);
        TAILQ_INSERT_TAIL(&runs->oldest_first, broken, others);
}

Sc__ErrorCode runs_check(Runs *runs, uint64_t order) {
        const BrokenRun *broken;

        if (order == 0 || !runs->by_run)
                return ERROR_NONE;
        forget_old(runs, boottime_usec());
        broken = find(runs, run_of(order));
        return broken && begun_of(order) <= broken->begun ? broken->code : ERROR_NONE;
}

/* Counted from a random number on, as there may be one for every message: other processes count elsewhere. */
uint64_t order_new(void) {
        static uint64_t last;

        if (last == 0)
                random_bytes(&last, sizeof(last));
        do
                last = (run_of(last) + 1) << BEGUN_BITS;
        while (last == 0);
        return last;
}

uint64_t order_again(uint64_t order) {
        return begun_of(order) < UINT16_MAX ? order + 1 : order_new();
}
