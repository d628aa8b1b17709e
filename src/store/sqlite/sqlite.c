/* SPDX-License-Identifier: Apache-2.0 */

/* The SQLite back end: one file, one writer, whose threads are put together here. */

#include <fcntl.h>
#include <sys/file.h>

#include "store/sqlite/check.h"
#include "store/sqlite/checkpoint.h"
#include "store/sqlite/reader.h"
#include "store/sqlite/schema.h"
#include "store/sqlite/writer.h"
#include "util/fd-util.h"
#include "util/string-util.h"

struct Backend {
        char *path;
        int lock_fd;
        Checkpointer *checkpointer;
        Writer *writer;
        Readers *readers;
        Checker *checker;
};

/* SQLite lets processes take turns at writing. This store must be the only writer, as it remembers where
 * conversations stand; so it holds a lock for as long as it lives, on a file of its own beside the database.
 */
static int take_lock(Backend *b) {
        _cleanup_free_ char *lock_path = format_string("%s.lock", b->path);
        if (!lock_path)
                return -ENOMEM;
        b->lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (b->lock_fd < 0)
                return -errno;
        if (flock(b->lock_fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -ENOTUNIQ : -errno;
        return 0;
}

/* Readable for its owner alone; SQLite gives the log the same mode. */
static int create_file(const char *path) {
        _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        return fd < 0 ? -errno : 0;
}

static int open_database(SqliteConnection **ret, const char *path, const StoreConfig *config) {
        _cleanup_(connection_closep) SqliteConnection *connection = NULL;

        int r = create_file(path);
        if (r >= 0)
                r = connection_open(&connection, path, CONNECTION_WRITER);
        if (r >= 0)
                r = sqlite_schema_ensure(connection, config->records);
        if (r < 0)
                return r;
        /* What recovery found in the log after a crash may never have been synced. From now on it counts as
         * stored, so it must be: this syncs it. Without space there is no new log either, and no harm. */
        r = checkpoint_truncate(connection);
        if (r < 0 && r != -ENOSPC)
                return r;
        *ret = TAKE_PTR(connection);
        return 0;
}

static void sqlite_close(Backend *b) {
        /* The last connection to be closed empties the log: that is the writer's, or the checkpointer's. */
        b->checker = checker_stop(b->checker);
        b->readers = readers_stop(b->readers);
        b->writer = writer_stop(b->writer);
        b->checkpointer = checkpointer_stop(b->checkpointer);
        b->lock_fd = safe_close(b->lock_fd);
        free(b->path);
        free(b);
}
DEFINE_CLEANUP(Backend *, sqlite_close);

/* Statements know their fields by bits. */
static int check_records(const MessageInfo *const *records) {
        for (; *records; records++)
                if (record_n_fields(*records) > SQL_MAX_FIELDS)
                        return -EOPNOTSUPP;
        return 0;
}

static int sqlite_open(Backend **ret, Store *store, _unused_ sd_event *event, const StoreConfig *config) {
        _cleanup_(connection_closep) SqliteConnection *connection = NULL;
        _cleanup_(sqlite_closep) Backend *b = new0(Backend, 1);

        if (!b)
                return -ENOMEM;
        b->lock_fd = -EBADF;
        b->path = format_string("%s/%s.db", config->directory, config->name);
        if (!b->path)
                return -ENOMEM;
        int r = check_records(config->records);
        if (r >= 0)
                r = take_lock(b);
        if (r >= 0)
                r = open_database(&connection, b->path, config);
        if (r >= 0)
                r = checkpointer_start(&b->checkpointer, b->path);
        if (r >= 0)
                r = writer_start(&b->writer, store, config, TAKE_PTR(connection), b->checkpointer);
        if (r >= 0)
                r = readers_start(&b->readers, store, config, b->path);
        if (r >= 0)
                r = checker_start(&b->checker, store, config, b->path);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(b);
        return 0;
}

static void sqlite_submit(Backend *b, Operation *operation) {
        switch (operation->kind) {
        case OPERATION_WRITE:
        case OPERATION_APPEND:
        case OPERATION_DELETE_ENTRIES:
                writer_submit(b->writer, operation);
                break;
        case OPERATION_READ:
                readers_submit(b->readers, operation);
                break;
        case OPERATION_CHECK:
                checker_submit(b->checker, operation);
                break;
        }
}

/* A check may take minutes, and nobody waits for it but who asked. */
static bool sqlite_is_alive(Backend *b, uint64_t max_busy_usec) {
        return writer_is_alive(b->writer, max_busy_usec) && readers_are_alive(b->readers, max_busy_usec) &&
               checkpointer_is_alive(b->checkpointer, max_busy_usec);
}

const BackendClass store_backend_class = {
        .kind = "sqlite",
        .version = STONECHAT_VERSION,
        .open = sqlite_open,
        .close = sqlite_close,
        .submit = sqlite_submit,
        .is_alive = sqlite_is_alive,
};
