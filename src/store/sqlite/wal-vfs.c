/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite/wal-vfs.h"

#include <sqlite3.h>
#include <stdbool.h>

#include "util/macro.h"

#define NAME "stonechat"
#define GATHERED_MAX (128U << 10)

typedef struct WalFile {
        sqlite3_file base; /* first: what SQLite knows */
        sqlite3_file *real; /* lies behind this */
        bool gathers;
        uint8_t *gathered; /* room for GATHERED_MAX; NULL: none yet */
        size_t size; /* of what is to be written */
        sqlite3_int64 offset; /* there */
} WalFile;

static sqlite3_vfs *real_vfs;

static WalFile *wal_file(sqlite3_file *file) {
        return (WalFile *) file;
}

static sqlite3_file *real_file(sqlite3_file *file) {
        return wal_file(file)->real;
}

/* What could not be written is not tried again: whoever hears of the failure rolls back. */
static int write_gathered(WalFile *file) {
        size_t size = TAKE_GENERIC(file->size, 0);

        if (size == 0)
                return SQLITE_OK;
        return file->real->pMethods->xWrite(file->real, file->gathered, (int) size, file->offset);
}

static int wal_close(sqlite3_file *file) {
        int rc = write_gathered(wal_file(file));
        int closed = real_file(file)->pMethods->xClose(real_file(file));

        wal_file(file)->gathered = mfree(wal_file(file)->gathered);
        return rc ?: closed;
}

static int wal_read(sqlite3_file *file, void *data, int size, sqlite3_int64 offset) {
        int rc = write_gathered(wal_file(file));
        return rc ?: real_file(file)->pMethods->xRead(real_file(file), data, size, offset);
}

static int wal_write(sqlite3_file *base, const void *data, int size, sqlite3_int64 offset) {
        WalFile *file = wal_file(base);
        bool fits = file->size + (size_t) size <= GATHERED_MAX;

        if (file->size > 0 && (!fits || offset != file->offset + (sqlite3_int64) file->size)) {
                int rc = write_gathered(file);
                if (rc != SQLITE_OK)
                        return rc;
        }
        if (!file->gathered && file->gathers)
                file->gathered = malloc(GATHERED_MAX);
        if (!file->gathered || (size_t) size > GATHERED_MAX)
                return file->real->pMethods->xWrite(file->real, data, size, offset);
        if (file->size == 0)
                file->offset = offset;
        memcpy(file->gathered + file->size, data, (size_t) size);
        file->size += (size_t) size;
        return SQLITE_OK;
}

static int wal_truncate(sqlite3_file *file, sqlite3_int64 size) {
        int rc = write_gathered(wal_file(file));
        return rc ?: real_file(file)->pMethods->xTruncate(real_file(file), size);
}

static int wal_sync(sqlite3_file *file, int flags) {
        int rc = write_gathered(wal_file(file));
        return rc ?: real_file(file)->pMethods->xSync(real_file(file), flags);
}

static int wal_file_size(sqlite3_file *file, sqlite3_int64 *ret) {
        int rc = write_gathered(wal_file(file));
        return rc ?: real_file(file)->pMethods->xFileSize(real_file(file), ret);
}

static int wal_lock(sqlite3_file *file, int level) {
        return real_file(file)->pMethods->xLock(real_file(file), level);
}

static int wal_unlock(sqlite3_file *file, int level) {
        return real_file(file)->pMethods->xUnlock(real_file(file), level);
}

static int wal_check_reserved_lock(sqlite3_file *file, int *ret) {
        return real_file(file)->pMethods->xCheckReservedLock(real_file(file), ret);
}

static int wal_file_control(sqlite3_file *file, int operation, void *argument) {
        int rc = write_gathered(wal_file(file));
        return rc ?: real_file(file)->pMethods->xFileControl(real_file(file), operation, argument);
}

static int wal_sector_size(sqlite3_file *file) {
        return real_file(file)->pMethods->xSectorSize(real_file(file));
}

static int wal_device_characteristics(sqlite3_file *file) {
        return real_file(file)->pMethods->xDeviceCharacteristics(real_file(file));
}

/* On a disk that may damage what lies beside a write SQLite fills the last sector of a commit, and part of that is
 * written behind the sync. */
static bool may_gather(const WalFile *file) {
        return file->real->pMethods->xDeviceCharacteristics(file->real) & SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* Any other file is the VFS's below, and its alone. */
static int open_file(
        _unused_ sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *base, int flags, int *ret_flags) {
        static const sqlite3_io_methods methods = {
                .iVersion = 1,
                .xClose = wal_close,
                .xRead = wal_read,
                .xWrite = wal_write,
                .xTruncate = wal_truncate,
                .xSync = wal_sync,
                .xFileSize = wal_file_size,
                .xLock = wal_lock,
                .xUnlock = wal_unlock,
                .xCheckReservedLock = wal_check_reserved_lock,
                .xFileControl = wal_file_control,
                .xSectorSize = wal_sector_size,
                .xDeviceCharacteristics = wal_device_characteristics,
        };
        WalFile *file = wal_file(base);

        if (!(flags & SQLITE_OPEN_WAL))
                return real_vfs->xOpen(real_vfs, name, base, flags, ret_flags);
        *file = (WalFile){.real = (sqlite3_file *) (file + 1)};
        file->real->pMethods = NULL;
        int rc = real_vfs->xOpen(real_vfs, name, file->real, flags, ret_flags);
        /* SQLite closes what has methods, also after a failure. */
        file->base.pMethods = file->real->pMethods ? &methods : NULL;
        if (rc == SQLITE_OK)
                file->gathers = may_gather(file);
        return rc;
}

/* The rest goes to the VFS below, which has to be told that it is that one. */

static int delete_file(_unused_ sqlite3_vfs *vfs, const char *name, int sync_directory) {
        return real_vfs->xDelete(real_vfs, name, sync_directory);
}

static int check_access(_unused_ sqlite3_vfs *vfs, const char *name, int flags, int *ret) {
        return real_vfs->xAccess(real_vfs, name, flags, ret);
}

static int full_path_name(_unused_ sqlite3_vfs *vfs, const char *name, int size, char *ret) {
        return real_vfs->xFullPathname(real_vfs, name, size, ret);
}

const char *wal_vfs_register(void) {
        static sqlite3_vfs vfs;

        real_vfs = sqlite3_vfs_find(NULL);
        if (!real_vfs)
                return NULL;
        vfs = *real_vfs;
        vfs.zName = NAME;
        vfs.pNext = NULL;
        vfs.szOsFile = (int) sizeof(WalFile) + real_vfs->szOsFile;
        vfs.xOpen = open_file;
        vfs.xDelete = delete_file;
        vfs.xAccess = check_access;
        vfs.xFullPathname = full_path_name;
        return sqlite3_vfs_register(&vfs, false) == SQLITE_OK ? NAME : NULL;
}
