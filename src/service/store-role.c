/* SPDX-License-Identifier: Apache-2.0 */
#include "service/store-role.h"

static void on_checked(int r, const char *const *findings, uint64_t pages, void *userdata) {
        Sc__StoreCheckResponse response = SC__STORE_CHECK_RESPONSE__INIT;
        Call *call = userdata;

        if (r < 0) {
                call_fail_errno(call, r, "check the store");
                return;
        }
        while (findings[response.n_findings])
                response.n_findings++;
        response.findings = (char **) findings;
        response.ok = response.n_findings == 0;
        response.pages = pages;
        call_return(call, &response.base);
}

void call_check_store(Call *call, Store *store) {
        int r = store_check(store, on_checked, call);
        if (r < 0)
                call_fail_errno(call, r, "check the store");
}

size_t store_role_statistics(Store *store, BusStatistic *ret, size_t max) {
        StoreStatistics figures;

        store_get_statistics(store, &figures);
        const BusStatistic statistics[] = {
                {"store_reads", figures.reads},
                {"store_writes", figures.writes},
                {"store_commits", figures.commits},
                {"store_queued", figures.queued},
                {"store_commit_usec_last", figures.commit_usec_last},
                {"store_commit_usec_max", figures.commit_usec_max},
        };
        size_t n = MIN(max, ELEMENTSOF(statistics));
        memcpy(ret, statistics, n * sizeof(BusStatistic));
        return n;
}
