/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/checkpoint.h"

#include <sys/statvfs.h>

#include "util/busy-clock.h"
#include "util/work-queue.h"

/* Start copying at this size of the log (32 MiB). The larger, the more often a page in it is overwritten
 * before it is copied once; the longer a start after a crash takes. */
#define LOG_PAGES 8192U
/* On a disk that fills up the log must not take the space that its own pages need in the database: then
 * neither could shrink any more. It gets a quarter of what is free, measured whenever it has grown by 1 MiB.
 */
#define LOG_SHARE 4U
#define LOG_PAGES_MIN 256U
#define MEASURE_PAGES 256U
#define PAGE_SIZE 4096U /* SQLite's default */
/* The writer finishes when less than this is left (2 MiB: some milliseconds), or after some rounds anyway.
 */
#define LEFT_PAGES 512U
#define MAX_ROUNDS 3
#define IDLE_SEC 5

struct Checkpointer {
        SqliteConnection *connection;
        char *path;
        pthread_t thread;
        bool started;
        BusyClock busy;
        _Atomic bool finish; /* the writer's turn */

        pthread_mutex_t mutex;
        pthread_cond_t wakeup;
        bool stop; /* this and what follows: under the mutex */
        unsigned n_pages; /* in the log */
        unsigned start_at; /* so many pages */
        unsigned limit, measured_at; /* what the free space allows, as of that size of the log */
        uint64_t n_notified;
};

static int checkpoint(SqliteConnection *connection, int mode, unsigned *ret_copied) {
        int n_log, n_copied;

        int rc = sqlite3_wal_checkpoint_v2(connection_handle(connection), NULL, mode, &n_log, &n_copied);
        if (rc != SQLITE_OK)
                return connection_error(connection, rc);
        *ret_copied = (unsigned) n_copied;
        return 0;
}

int checkpoint_passive(SqliteConnection *connection, unsigned *ret_copied) {
        return checkpoint(connection, SQLITE_CHECKPOINT_PASSIVE, ret_copied);
}

int checkpoint_truncate(SqliteConnection *connection) {
        unsigned n_copied;
        return checkpoint(connection, SQLITE_CHECKPOINT_TRUNCATE, &n_copied);
}

static unsigned pages_in_log(Checkpointer *c) {
        pthread_mutex_lock(&c->mutex);
        unsigned n = c->n_pages;
        pthread_mutex_unlock(&c->mutex);
        return n;
}

/* Without the mutex. The log has grown by the time it is copied. */
static void copy_log(Checkpointer *c) {
        unsigned n_copied = 0;

        for (unsigned round = 0; round < MAX_ROUNDS && n_copied + LEFT_PAGES < pages_in_log(c); round++) {
                busy_begin(&c->busy);
                int r = checkpoint_passive(c->connection, &n_copied);
                busy_end(&c->busy);
                if (r < 0)
                        return;
        }
        atomic_store(&c->finish, true);
}

/* With the mutex, which it lets go of while it works. */
static void run_checkpoint(Checkpointer *c) {
        pthread_mutex_unlock(&c->mutex);
        (void) copy_log(c); /* a failure shows in the log's size; the next try is below */
        pthread_mutex_lock(&c->mutex);
        /* Should the log not start over (a long read needs it, the disk is full), try again later. */
        c->start_at = MAX(c->limit, c->n_pages + c->limit / 4);
}

static void run_truncate(Checkpointer *c) {
        uint64_t n_notified = c->n_notified;

        pthread_mutex_unlock(&c->mutex);
        busy_begin(&c->busy);
        int r = checkpoint_truncate(c->connection);
        busy_end(&c->busy);
        pthread_mutex_lock(&c->mutex);
        if (r >= 0 && c->n_notified == n_notified)
                c->n_pages = 0;
}

/* With the mutex: 0 if woken up, -ETIMEDOUT after some time of rest. */
static int wait_idle(Checkpointer *c) {
        struct timespec until;

        if (c->n_pages == 0)
                return -pthread_cond_wait(&c->wakeup, &c->mutex);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += IDLE_SEC;
        return -pthread_cond_timedwait(&c->wakeup, &c->mutex, &until);
}

static void *checkpointer_main(void *userdata) {
        Checkpointer *c = userdata;

        pthread_mutex_lock(&c->mutex);
        while (!c->stop) {
                uint64_t n_notified = c->n_notified;
                if (c->n_pages >= c->start_at)
                        run_checkpoint(c);
                else if (wait_idle(c) == -ETIMEDOUT && c->n_notified == n_notified)
                        run_truncate(c);
        }
        pthread_mutex_unlock(&c->mutex);
        return NULL;
}

static unsigned measure_limit(const Checkpointer *c) {
        struct statvfs s;

        if (statvfs(c->path, &s) < 0)
                return LOG_PAGES;
        uint64_t n_free = (uint64_t) s.f_bavail * s.f_frsize / PAGE_SIZE;
        return (unsigned) MAX(MIN(n_free / LOG_SHARE, (uint64_t) LOG_PAGES), (uint64_t) LOG_PAGES_MIN);
}

/* With the mutex. */
static void limit_log_to_free_space(Checkpointer *c, unsigned n_pages) {
        bool over = n_pages < c->n_pages; /* the log started over */

        if (!over && n_pages < c->measured_at + MEASURE_PAGES)
                return;
        c->limit = measure_limit(c);
        c->measured_at = n_pages;
        c->start_at = over ? c->limit : MIN(c->start_at, MAX(c->limit, n_pages));
}

void checkpointer_notify(Checkpointer *c, unsigned n_pages) {
        pthread_mutex_lock(&c->mutex);
        bool first = c->n_pages == 0;
        limit_log_to_free_space(c, n_pages);
        c->n_pages = n_pages;
        c->n_notified++;
        if (first || n_pages >= c->start_at)
                pthread_cond_signal(&c->wakeup);
        pthread_mutex_unlock(&c->mutex);
}

bool checkpointer_wants_finish(Checkpointer *c) {
        return atomic_load_explicit(&c->finish, memory_order_relaxed) && atomic_exchange(&c->finish, false);
}

bool checkpointer_is_alive(Checkpointer *c, uint64_t max_busy_usec) {
        return busy_is_alive(&c->busy, max_busy_usec);
}

int checkpointer_start(Checkpointer **ret, const char *path) {
        Checkpointer *c = new0(Checkpointer, 1);
        pthread_condattr_t attributes;

        if (!c)
                return -ENOMEM;
        c->path = strdup(path);
        if (!c->path) {
                free(c);
                return -ENOMEM;
        }
        c->start_at = c->limit = measure_limit(c);
        pthread_mutex_init(&c->mutex, NULL);
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&c->wakeup, &attributes);
        pthread_condattr_destroy(&attributes);
        int r = connection_open(&c->connection, path, CONNECTION_CHECKPOINTER);
        if (r >= 0)
                r = thread_start(&c->thread, "store-checkpt", checkpointer_main, c);
        c->started = r >= 0;
        if (r < 0)
                checkpointer_stop(c);
        else
                *ret = c;
        return r;
}

Checkpointer *checkpointer_stop(Checkpointer *c) {
        if (!c)
                return NULL;
        pthread_mutex_lock(&c->mutex);
        c->stop = true;
        pthread_cond_signal(&c->wakeup);
        pthread_mutex_unlock(&c->mutex);
        if (c->started)
                pthread_join(c->thread, NULL);
        connection_close(c->connection);
        pthread_cond_destroy(&c->wakeup);
        pthread_mutex_destroy(&c->mutex);
        free(c->path);
        free(c);
        return NULL;
}
