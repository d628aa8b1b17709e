/* SPDX-License-Identifier: Apache-2.0 */
#include "service/store-role.h"

#include "log/log.h"
#include "service/credential.h"
#include "util/string-util.h"

#define PASSWORD_MAX 1024U

/* The credential store.password, without the newline that an editor leaves; NULL if there is none. */
static int load_password(char **ret) {
        char *password;
        size_t size;

        int r = credential_read("store.password", PASSWORD_MAX, &password, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return log_error_errno(r, "Failed to read the credential store.password: %m");
        password[strcspn(password, "\r\n")] = '\0';
        *ret = password;
        return 0;
}

int store_role_open(Store **ret, RoleProcess *process, const char *name, const MessageInfo *const *records) {
        _cleanup_(credential_wipe_and_freep) char *password = NULL;
        const Conf *conf = process->conf;

        int r = load_password(&password);
        if (r < 0)
                return r;
        const StoreConfig config = {
                .kind = conf->store_kind,
                .name = name,
                .directory = role_process_state_directory(process),
                .uri = conf->store_uri,
                .password = password,
                .timeout_usec = conf->store_timeout_usec,
                .records = records,
                .n_readers = (unsigned) conf->store_readers,
                .batch_operations = (unsigned) conf->store_batch_operations,
                .max_queued = (unsigned) conf->store_queue,
        };

        r = store_open(ret, process->event, &config);
        if (r < 0)
                return log_error_errno(r, "Failed to open the store %s: %m", name);
        return 0;
}

int store_role_check(Call *call, Store *store, Sc__StoreCheckResponse *response) {
        StoreCheck check;

        int r = store_check(store, &call->arena, &check);
        if (r < 0)
                return r;
        response->findings = (char **) check.findings;
        while (check.findings[response->n_findings])
                response->n_findings++;
        response->ok = response->n_findings == 0;
        response->pages = check.pages;
        return 0;
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
