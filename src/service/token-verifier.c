/* SPDX-License-Identifier: Apache-2.0 */
#include "service/token-verifier.h"

#include <sodium.h>

#include "fiber/fiber.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"
#include "util/work-queue.h"

#define MAX_BATCH 16U
#define MAX_BUSY_USEC (10 * USEC_PER_SEC) /* a batch takes some 2 ms */
#define DIGEST_SIZE crypto_generichash_BYTES_MIN

/* A token that was found good. */
typedef struct Remembered {
        uint8_t digest[DIGEST_SIZE];
        TokenClaims claims; /* an empty user: nothing is here */
} Remembered;

struct TokenVerifier {
        TokenKeys *keys;
        WorkQueue *queue;
        WorkReturn *back;
        unsigned n_jobs; /* begun or waiting */
        /* A token has one place, by its digest; the one before it there is forgotten. The digest has a key, so
         * that nobody can choose tokens for a place. */
        uint8_t digest_key[crypto_generichash_KEYBYTES];
        Remembered *remembered;
        size_t n_remembered;
};

typedef struct Job {
        Future future; /* of a fiber that waits; the other reference is the thread's */
        WorkItem item;
        TokenKeys *keys;
        TokenVerified done; /* NULL: a fiber waits */
        void *userdata;
        uint8_t digest[DIGEST_SIZE];
        /* outcome */
        Sc__ErrorCode code;
        TokenClaims claims;
        char token[];
} Job;

static void job_destroy(Future *future) {
        Job *job = CONTAINER_OF(future, Job, future);

        token_keys_unref(job->keys);
        free(job);
}

static void job_unrefp(Job **job) {
        if (*job)
                future_unref(&(*job)->future);
}

/* --- what is remembered --- */

static void make_digest(const TokenVerifier *verifier, const char *token, uint8_t out[static DIGEST_SIZE]) {
        crypto_generichash(out, DIGEST_SIZE, (const uint8_t *) token, strlen(token), verifier->digest_key,
                sizeof(verifier->digest_key));
}

static Remembered *place_of(TokenVerifier *verifier, const uint8_t digest[static DIGEST_SIZE]) {
        uint64_t number;

        memcpy(&number, digest, sizeof(number));
        return verifier->remembered + number % verifier->n_remembered;
}

bool token_verifier_find(TokenVerifier *verifier, const char *token, TokenClaims *ret) {
        uint8_t digest[DIGEST_SIZE];

        if (!verifier || verifier->n_remembered == 0 || strlen(token) > TOKEN_MAX_SIZE)
                return false;
        make_digest(verifier, token, digest);
        const Remembered *place = place_of(verifier, digest);
        if (isempty(place->claims.user) || memcmp(place->digest, digest, DIGEST_SIZE) != 0 ||
                place->claims.expires_at <= unix_msec() / 1000)
                return false;
        *ret = place->claims;
        return true;
}

static void remember(TokenVerifier *verifier, const Job *job) {
        /* The keys may have changed meanwhile. */
        if (job->code != ERROR_NONE || verifier->n_remembered == 0 || job->keys != verifier->keys)
                return;
        Remembered *place = place_of(verifier, job->digest);
        memcpy(place->digest, job->digest, DIGEST_SIZE);
        place->claims = job->claims;
}

/* --- the thread --- */

static void on_run(WorkList *batch, _unused_ unsigned thread, void *userdata) {
        TokenVerifier *verifier = userdata;
        WorkItem *item;

        TAILQ_FOREACH(item, batch, link) {
                Job *job = CONTAINER_OF(item, Job, item);
                job->code = token_verify(job->keys, job->token, unix_msec() / 1000, &job->claims);
        }
        work_return_push(verifier->back, batch);
}

static void on_done(WorkItem *item, void *userdata) {
        TokenVerifier *verifier = userdata;
        Job *job = CONTAINER_OF(item, Job, item);

        verifier->n_jobs--;
        remember(verifier, job);
        if (job->done)
                job->done(job->code, job->code == ERROR_NONE ? &job->claims : NULL, job->userdata);
        future_fulfil(&job->future);
}

int token_verifier_new_with(TokenVerifier **ret, sd_event *event, size_t n_remembered, TokenKeys *keys) {
        _cleanup_(token_verifier_freep) TokenVerifier *verifier = new0(TokenVerifier, 1);
        if (!verifier)
                return -ENOMEM;
        verifier->keys = token_keys_ref(keys);
        randombytes_buf(verifier->digest_key, sizeof(verifier->digest_key));
        if (n_remembered > 0) {
                verifier->remembered = new0(Remembered, n_remembered);
                if (!verifier->remembered)
                        return -ENOMEM;
                verifier->n_remembered = n_remembered;
        }
        int r = work_return_new(&verifier->back, event, on_done, verifier);
        if (r < 0)
                return r;
        const WorkQueueConfig config = {
                .name = "token",
                .n_threads = 1,
                .max_batch = MAX_BATCH,
                .run = on_run,
                .userdata = verifier,
        };
        r = work_queue_start(&verifier->queue, &config);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(verifier);
        return 0;
}

int token_verifier_new(TokenVerifier **ret, sd_event *event, size_t n_remembered) {
        _cleanup_(token_keys_unrefp) TokenKeys *keys = NULL;

        int r = token_keys_load(&keys);
        return r < 0 ? r : token_verifier_new_with(ret, event, n_remembered, keys);
}

TokenVerifier *token_verifier_free(TokenVerifier *verifier) {
        if (!verifier)
                return NULL;
        work_queue_stop(verifier->queue);
        if (verifier->back)
                work_return_flush(verifier->back);
        work_return_free(verifier->back);
        token_keys_unref(verifier->keys);
        free(verifier->remembered);
        free(verifier);
        return NULL;
}

bool token_verifier_is_alive(TokenVerifier *verifier) {
        return work_queue_is_alive(verifier->queue, MAX_BUSY_USEC);
}

int token_verifier_reload(TokenVerifier *verifier) {
        TokenKeys *keys;

        int r = token_keys_load(&keys);
        if (r < 0)
                return r;
        token_keys_unref(verifier->keys);
        verifier->keys = keys;
        if (verifier->remembered)
                memset(verifier->remembered, 0, verifier->n_remembered * sizeof(Remembered));
        return 0;
}

const TokenKeys *token_verifier_keys(const TokenVerifier *verifier) {
        return verifier->keys;
}

/* --- checking --- */

/* The caller's reference; the thread has one of its own. */
static int start_job(
        TokenVerifier *verifier, const char *token, TokenVerified done, void *userdata, Job **ret) {
        size_t size = strlen(token);

        if (!verifier)
                return -ECANCELED;
        if (verifier->n_jobs >= TOKEN_VERIFIER_MAX_WAITING)
                return -EBUSY;
        if (size > TOKEN_MAX_SIZE) /* no token: it is refused as any other text */
                size = 0;
        Job *job = calloc(1, sizeof(Job) + size + 1);
        if (!job)
                return -ENOMEM;
        future_init(&job->future, job_destroy);
        job->keys = token_keys_ref(verifier->keys);
        job->done = done;
        job->userdata = userdata;
        memcpy(job->token, token, size);
        if (verifier->n_remembered > 0)
                make_digest(verifier, job->token, job->digest);
        verifier->n_jobs++;
        future_ref(&job->future);
        work_queue_push(verifier->queue, &job->item);
        *ret = job;
        return 0;
}

int token_verifier_start(TokenVerifier *verifier, const char *token, TokenVerified done, void *userdata) {
        _cleanup_(job_unrefp) Job *job = NULL;
        return start_job(verifier, token, done, userdata, &job);
}

int token_verifier_check(
        TokenVerifier *verifier, const char *token, TokenClaims *ret, Sc__ErrorCode *ret_code) {
        _cleanup_(job_unrefp) Job *job = NULL;

        int r = start_job(verifier, token, NULL, NULL, &job);
        if (r < 0)
                return r;
        r = future_await(&job->future);
        if (r < 0)
                return r;
        if (job->code == ERROR_NONE)
                *ret = job->claims;
        *ret_code = job->code;
        return 0;
}
