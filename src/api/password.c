/* SPDX-License-Identifier: Apache-2.0 */
#include "api/password.h"

#include <sodium.h>

#include "util/string-util.h"
#include "util/time-util.h"
#include "util/worker-pool.h"

/* Far more than the most expensive cost takes; the threads do nothing else that could block. */
#define MAX_BUSY_USEC (60 * USEC_PER_SEC)

struct PasswordHasher {
        WorkerPool *pool;
};

typedef struct PasswordJob {
        WorkerJob job;
        PasswordCost cost;
        bool verify;
        bool known; /* stored is set */
        char stored[crypto_pwhash_STRBYTES];
        PasswordDone done;
        void *userdata;
        /* outcome */
        int r;
        bool hashed;
        char hash[crypto_pwhash_STRBYTES];
        /* the password */
        size_t size;
        char password[];
} PasswordJob;

int password_hasher_new(PasswordHasher **ret, sd_event *event, unsigned n_threads, unsigned max_queued) {
        _cleanup_(password_hasher_freep) PasswordHasher *hasher = new0(PasswordHasher, 1);
        if (!hasher)
                return -ENOMEM;
        int r = worker_pool_new(&hasher->pool, event, "password", n_threads, max_queued);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(hasher);
        return 0;
}

PasswordHasher *password_hasher_free(PasswordHasher *hasher) {
        if (!hasher)
                return NULL;
        worker_pool_free(hasher->pool);
        free(hasher);
        return NULL;
}

bool password_hasher_is_alive(PasswordHasher *hasher) {
        return worker_pool_is_alive(hasher->pool, MAX_BUSY_USEC);
}

static PasswordJob *password_job_free(PasswordJob *job) {
        if (!job)
                return NULL;
        size_t size = sizeof(PasswordJob) + job->size + 1;
        sodium_memzero(job, size);
        free(job);
        return NULL;
}
DEFINE_CLEANUP(PasswordJob *, password_job_free);

static int make_hash(PasswordJob *job) {
        job->hashed = crypto_pwhash_str(job->hash, job->password, job->size, job->cost.operations,
                              job->cost.memory) == 0;
        return job->hashed ? 0 : -ENOMEM;
}

/* On a worker thread. */
static int run_verify(PasswordJob *job) {
        if (!job->known) {
                (void) make_hash(job);
                job->hashed = false;
                return -EKEYREJECTED;
        }
        if (crypto_pwhash_str_verify(job->stored, job->password, job->size) != 0)
                return -EKEYREJECTED;
        /* The password is right whether or not a new hash can be made. */
        if (crypto_pwhash_str_needs_rehash(job->stored, job->cost.operations, job->cost.memory) == 1)
                (void) make_hash(job);
        return 0;
}

static void on_run(WorkerJob *worker_job) {
        PasswordJob *job = CONTAINER_OF(worker_job, PasswordJob, job);

        job->r = job->verify ? run_verify(job) : make_hash(job);
        sodium_memzero(job->password, job->size);
}

static void on_done(WorkerJob *worker_job) {
        _cleanup_(password_job_freep) PasswordJob *job = CONTAINER_OF(worker_job, PasswordJob, job);

        job->done(job->r, job->hashed ? job->hash : NULL, job->userdata);
}

static int submit(PasswordHasher *hasher, const char *password, const PasswordJob *settings) {
        size_t size = strlen(password);

        if (!hasher)
                return -ECANCELED;
        _cleanup_(password_job_freep) PasswordJob *job = calloc(1, sizeof(PasswordJob) + size + 1);
        if (!job)
                return -ENOMEM;
        *job = *settings;
        job->job = (WorkerJob){.run = on_run, .done = on_done};
        job->size = size;
        memcpy(job->password, password, size);
        int r = worker_pool_submit(hasher->pool, &job->job);
        if (r >= 0)
                TAKE_PTR(job);
        return r;
}

int password_hash(
        PasswordHasher *hasher, const char *password, PasswordCost cost, PasswordDone done, void *userdata) {
        return submit(hasher, password, &(PasswordJob){.cost = cost, .done = done, .userdata = userdata});
}

int password_verify(PasswordHasher *hasher, const char *password, const char *stored, PasswordCost cost,
        PasswordDone done, void *userdata) {
        PasswordJob settings = {.cost = cost, .verify = true, .done = done, .userdata = userdata};

        if (stored && strlen(stored) < sizeof(settings.stored)) {
                settings.known = true;
                strcpy(settings.stored, stored);
        }
        int r = submit(hasher, password, &settings);
        sodium_memzero(&settings, sizeof(settings));
        return r;
}
