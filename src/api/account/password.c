/* SPDX-License-Identifier: Apache-2.0 */
#include "api/account/password.h"

#include "fiber/fiber.h"
#include "util/time-util.h"
#include "util/work-queue.h"

/* Far more than the most expensive cost takes; the threads do nothing else that could block. */
#define MAX_BUSY_USEC (60 * USEC_PER_SEC)

struct PasswordHasher {
        WorkQueue *queue;
        WorkReturn *back;
        unsigned n_jobs, max_jobs, max_strangers; /* begun or waiting */
};

typedef struct PasswordJob {
        Future future; /* of whoever waits; the other reference is the thread's */
        WorkItem item;
        PasswordCost cost;
        bool verify;
        bool known; /* stored is set */
        char stored[PASSWORD_HASH_SIZE];
        /* outcome */
        int r;
        bool hashed;
        char hash[PASSWORD_HASH_SIZE];
        /* the password */
        size_t size;
        char password[];
} PasswordJob;

static void password_job_destroy(Future *future) {
        PasswordJob *job = CONTAINER_OF(future, PasswordJob, future);

        sodium_memzero(job, sizeof(PasswordJob) + job->size + 1);
        free(job);
}

static void password_job_unrefp(PasswordJob **job) {
        if (*job)
                future_unref(&(*job)->future);
}

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

/* On a thread. */
static void on_run(WorkList *batch, _unused_ unsigned thread, void *userdata) {
        PasswordHasher *hasher = userdata;
        WorkItem *item;

        TAILQ_FOREACH(item, batch, link) {
                PasswordJob *job = CONTAINER_OF(item, PasswordJob, item);
                job->r = job->verify ? run_verify(job) : make_hash(job);
                sodium_memzero(job->password, job->size);
        }
        work_return_push(hasher->back, batch);
}

static void on_done(WorkItem *item, void *userdata) {
        PasswordHasher *hasher = userdata;

        hasher->n_jobs--;
        future_fulfil(&CONTAINER_OF(item, PasswordJob, item)->future);
}

int password_hasher_new(PasswordHasher **ret, sd_event *event, unsigned n_threads, unsigned max_queued) {
        _cleanup_(password_hasher_freep) PasswordHasher *hasher = new0(PasswordHasher, 1);
        if (!hasher)
                return -ENOMEM;
        hasher->max_jobs = n_threads + max_queued;
        hasher->max_strangers = n_threads + max_queued - max_queued / 4;
        int r = work_return_new(&hasher->back, event, on_done, hasher);
        if (r < 0)
                return r;
        WorkQueueConfig config = {
                .name = "password",
                .n_threads = n_threads,
                .max_batch = 1,
                .run = on_run,
                .userdata = hasher,
        };
        r = work_queue_start(&hasher->queue, &config);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(hasher);
        return 0;
}

PasswordHasher *password_hasher_free(PasswordHasher *hasher) {
        if (!hasher)
                return NULL;
        work_queue_stop(hasher->queue);
        if (hasher->back)
                work_return_flush(hasher->back);
        work_return_free(hasher->back);
        free(hasher);
        return NULL;
}

bool password_hasher_is_alive(PasswordHasher *hasher) {
        return work_queue_is_alive(hasher->queue, MAX_BUSY_USEC);
}

static PasswordJob *password_job_new(const char *password, PasswordCost cost) {
        size_t size = strlen(password);
        PasswordJob *job = calloc(1, sizeof(PasswordJob) + size + 1);

        if (!job)
                return NULL;
        future_init(&job->future, password_job_destroy);
        job->cost = cost;
        job->size = size;
        memcpy(job->password, password, size);
        return job;
}

/* Has a thread do it, and waits. A fiber that is cancelled does not wait for its end. */
static int run_job(PasswordHasher *hasher, PasswordJob *job, bool known) {
        if (!hasher)
                return -ECANCELED;
        if (hasher->n_jobs >= (known ? hasher->max_jobs : hasher->max_strangers))
                return -EBUSY;
        hasher->n_jobs++;
        future_ref(&job->future);
        work_queue_push(hasher->queue, &job->item);
        int r = future_await(&job->future);
        return r < 0 ? r : job->r;
}

int password_hash(
        PasswordHasher *hasher, char *password, PasswordCost cost, char hash[static PASSWORD_HASH_SIZE]) {
        _cleanup_(password_job_unrefp) PasswordJob *job = password_job_new(password, cost);

        password_wipe(password);
        if (!job)
                return -ENOMEM;
        int r = run_job(hasher, job, false);
        if (r < 0)
                return r;
        strcpy(hash, job->hash);
        return 0;
}

int password_verify(PasswordHasher *hasher, char *password, const char *stored, bool known,
        PasswordCost cost, char hash[static PASSWORD_HASH_SIZE]) {
        _cleanup_(password_job_unrefp) PasswordJob *job = password_job_new(password, cost);

        password_wipe(password);
        if (!job)
                return -ENOMEM;
        job->verify = true;
        if (stored && strlen(stored) < sizeof(job->stored)) {
                job->known = true;
                strcpy(job->stored, stored);
        }
        int r = run_job(hasher, job, known);
        if (r < 0 || !job->hashed)
                return r;
        strcpy(hash, job->hash);
        return 1;
}
