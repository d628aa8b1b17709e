/* SPDX-License-Identifier: Apache-2.0 */
#include "fault-vfs.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "util/macro.h"

#define SECTOR 512
#define MAX_FILES 8

/* A write since the last sync; with data NULL a truncation to `offset`. */
typedef struct Pending {
        TAILQ_ENTRY(Pending) link;
        sqlite3_int64 offset;
        size_t size;
        uint8_t *data;
} Pending;

/* One file as the disk has it, however often it is open. */
typedef struct Image {
        char *name; /* without the directory */
        bool exists;
        uint8_t *synced;
        size_t size;
        TAILQ_HEAD(, Pending) pending;
} Image;

typedef struct FaultFile {
        sqlite3_file base;
        Image *image; /* NULL: of no interest */
        sqlite3_file *real; /* lies behind this */
} FaultFile;

bool fault_vfs_damages;

static struct {
        pthread_mutex_t mutex;
        Fault fault;
        unsigned first, count, n_operations;
        bool happened;
        Image images[MAX_FILES];
        unsigned n_images;
        sqlite3_vfs vfs, *real;
} disk = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static sqlite3_file *real_file(sqlite3_file *file) {
        return ((FaultFile *) file)->real;
}

/* --- images; all with the mutex --- */

static void image_write(Image *image, sqlite3_int64 offset, const void *data, size_t size) {
        size_t end = (size_t) offset + size;

        if (end > image->size) {
                image->synced = realloc(image->synced, end);
                memset(image->synced + image->size, 0, end - image->size);
                image->size = end;
        }
        memcpy(image->synced + offset, data, size);
}

static void image_apply(Image *image, const Pending *pending) {
        if (pending->data)
                image_write(image, pending->offset, pending->data, pending->size);
        else if (image->size > (size_t) pending->offset)
                image->size = (size_t) pending->offset;
}

static void image_forget_pending(Image *image) {
        while (!TAILQ_EMPTY(&image->pending)) {
                Pending *pending = TAILQ_FIRST(&image->pending);
                TAILQ_REMOVE(&image->pending, pending, link);
                free(pending->data);
                free(pending);
        }
}

static void image_sync(Image *image) {
        Pending *pending;

        TAILQ_FOREACH(pending, &image->pending, link)
                image_apply(image, pending);
        image_forget_pending(image);
}

static void image_add_pending(Image *image, sqlite3_int64 offset, const void *data, size_t size) {
        Pending *pending = new0(Pending, 1);

        *pending = (Pending){.offset = offset, .size = size};
        if (data) {
                pending->data = malloc(size);
                memcpy(pending->data, data, size);
        }
        TAILQ_INSERT_TAIL(&image->pending, pending, link);
}

static Image *image_find(const char *path, bool create) {
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

        for (unsigned i = 0; i < disk.n_images; i++)
                if (strcmp(disk.images[i].name, name) == 0)
                        return &disk.images[i];
        if (!create || disk.n_images == MAX_FILES)
                return NULL;
        Image *image = &disk.images[disk.n_images++];
        *image = (Image){.name = strdup(name)};
        TAILQ_INIT(&image->pending);
        return image;
}

static void image_delete(Image *image) {
        image_forget_pending(image);
        image->exists = false;
        image->size = 0;
}

/* --- what SQLite calls --- */

/* Counts the operation: SQLITE_OK, or how it fails. */
static int next_operation(int error, bool needs_space) {
        unsigned n = ++disk.n_operations;
        bool in_range = n >= disk.first && (disk.fault == FAULT_CRASH || n - disk.first < disk.count);

        if (disk.fault == FAULT_NONE || !in_range || (disk.fault == FAULT_FULL && !needs_space))
                return SQLITE_OK;
        disk.happened = true;
        return disk.fault == FAULT_FULL ? SQLITE_FULL : error;
}

static int fault_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset) {
        Image *image = ((FaultFile *) file)->image;

        pthread_mutex_lock(&disk.mutex);
        int rc = next_operation(SQLITE_IOERR_WRITE, true);
        if (rc == SQLITE_OK && image)
                image_add_pending(image, offset, data, (size_t) size);
        pthread_mutex_unlock(&disk.mutex);
        return rc == SQLITE_OK ? real_file(file)->pMethods->xWrite(real_file(file), data, size, offset) : rc;
}

static int fault_truncate(sqlite3_file *file, sqlite3_int64 size) {
        Image *image = ((FaultFile *) file)->image;

        pthread_mutex_lock(&disk.mutex);
        int rc = next_operation(SQLITE_IOERR_TRUNCATE, false);
        if (rc == SQLITE_OK && image)
                image_add_pending(image, size, NULL, 0);
        pthread_mutex_unlock(&disk.mutex);
        return rc == SQLITE_OK ? real_file(file)->pMethods->xTruncate(real_file(file), size) : rc;
}

/* The images know what is synced: the real disk need not. */
static int fault_sync(sqlite3_file *file, int flags) {
        Image *image = ((FaultFile *) file)->image;

        pthread_mutex_lock(&disk.mutex);
        int rc = next_operation(SQLITE_IOERR_FSYNC, false);
        if (rc == SQLITE_OK && image)
                image_sync(image);
        pthread_mutex_unlock(&disk.mutex);
        return rc;
}

#define PASS(name, parameters, ...)                                                                         \
        static int fault_##name parameters {                                                                \
                return real_file(file)->pMethods->x##name(real_file(file), ##__VA_ARGS__);                  \
        }
PASS(Close, (sqlite3_file * file))
PASS(Read, (sqlite3_file * file, void *data, int size, sqlite3_int64 offset), data, size, offset)
PASS(FileSize, (sqlite3_file * file, sqlite3_int64 *size), size)
PASS(Lock, (sqlite3_file * file, int level), level)
PASS(Unlock, (sqlite3_file * file, int level), level)
PASS(CheckReservedLock, (sqlite3_file * file, int *result), result)
PASS(FileControl, (sqlite3_file * file, int op, void *argument), op, argument)
PASS(SectorSize, (sqlite3_file * file))
PASS(ShmMap, (sqlite3_file * file, int page, int size, int extend, void volatile **map), page, size, extend,
        map)
PASS(ShmLock, (sqlite3_file * file, int offset, int n, int flags), offset, n, flags)
PASS(ShmUnmap, (sqlite3_file * file, int remove), remove)

static void fault_shm_barrier(sqlite3_file *file) {
        real_file(file)->pMethods->xShmBarrier(real_file(file));
}

/* Promises nothing else, whatever the machine's own file system does. */
static int fault_characteristics(sqlite3_file *file) {
        return fault_vfs_damages ? 0 : SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods methods = {
        .iVersion = 2,
        .xClose = fault_Close,
        .xRead = fault_Read,
        .xWrite = fault_write,
        .xTruncate = fault_truncate,
        .xSync = fault_sync,
        .xFileSize = fault_FileSize,
        .xLock = fault_Lock,
        .xUnlock = fault_Unlock,
        .xCheckReservedLock = fault_CheckReservedLock,
        .xFileControl = fault_FileControl,
        .xSectorSize = fault_SectorSize,
        .xDeviceCharacteristics = fault_characteristics,
        .xShmMap = fault_ShmMap,
        .xShmLock = fault_ShmLock,
        .xShmBarrier = fault_shm_barrier,
        .xShmUnmap = fault_ShmUnmap,
};

static int fault_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags) {
        FaultFile *f = (FaultFile *) file;

        f->base.pMethods = NULL;
        f->real = (sqlite3_file *) (f + 1);
        f->image = NULL;
        if (name && (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL))) {
                pthread_mutex_lock(&disk.mutex);
                f->image = image_find(name, true);
                f->image->exists = true;
                pthread_mutex_unlock(&disk.mutex);
        }
        int rc = disk.real->xOpen(disk.real, name, f->real, flags, ret_flags);
        if (f->real->pMethods)
                f->base.pMethods = &methods;
        return rc;
}

static int fault_delete(sqlite3_vfs *vfs, const char *name, int sync) {
        pthread_mutex_lock(&disk.mutex);
        Image *image = image_find(name, false);
        int rc = next_operation(SQLITE_IOERR_DELETE, false);
        if (rc == SQLITE_OK && image)
                image_delete(image);
        pthread_mutex_unlock(&disk.mutex);
        return rc == SQLITE_OK ? disk.real->xDelete(disk.real, name, sync) : rc;
}

void fault_vfs_register(void) {
        disk.real = sqlite3_vfs_find(NULL);
        disk.vfs = *disk.real;
        disk.vfs.zName = "fault";
        disk.vfs.szOsFile = (int) sizeof(FaultFile) + disk.real->szOsFile;
        disk.vfs.xOpen = fault_open;
        disk.vfs.xDelete = fault_delete;
        sqlite3_vfs_register(&disk.vfs, 1);
}

void fault_vfs_forget(void) {
        pthread_mutex_lock(&disk.mutex);
        for (unsigned i = 0; i < disk.n_images; i++) {
                image_delete(&disk.images[i]);
                free(disk.images[i].synced);
                free(disk.images[i].name);
        }
        disk.n_images = 0;
        pthread_mutex_unlock(&disk.mutex);
}

void fault_vfs_arm(Fault fault, unsigned first, unsigned count) {
        pthread_mutex_lock(&disk.mutex);
        disk.n_operations = 0;
        disk.fault = fault;
        disk.first = first;
        disk.count = count;
        disk.happened = false;
        pthread_mutex_unlock(&disk.mutex);
}

unsigned fault_vfs_n_operations(void) {
        pthread_mutex_lock(&disk.mutex);
        unsigned n = disk.n_operations;
        pthread_mutex_unlock(&disk.mutex);
        return n;
}

bool fault_vfs_disarm(void) {
        pthread_mutex_lock(&disk.mutex);
        disk.fault = FAULT_NONE;
        bool happened = disk.happened;
        pthread_mutex_unlock(&disk.mutex);
        return happened;
}

/* Each sector of each write since the last sync: written, or not. */
static void apply_some(Image *image) {
        Pending *pending;

        TAILQ_FOREACH(pending, &image->pending, link) {
                if (!pending->data) {
                        if (random() % 2)
                                image_apply(image, pending);
                        continue;
                }
                for (size_t begin = 0; begin < pending->size; begin += SECTOR)
                        if (random() % 2)
                                image_write(image, pending->offset + (sqlite3_int64) begin,
                                        pending->data + begin, MIN(pending->size - begin, (size_t) SECTOR));
        }
}

void fault_vfs_restore(const char *directory, unsigned seed) {
        srandom(seed);
        pthread_mutex_lock(&disk.mutex);
        for (unsigned i = 0; i < disk.n_images; i++) {
                Image *image = &disk.images[i];
                char path[256];
                if (!image->exists)
                        continue;
                if (seed > 0) /* 0: nothing of it */
                        apply_some(image);
                snprintf(path, sizeof(path), "%s/%s", directory, image->name);
                FILE *file = fopen(path, "we");
                assert_se(file &&
                          (image->size == 0 || fwrite(image->synced, 1, image->size, file) == image->size));
                fclose(file);
        }
        pthread_mutex_unlock(&disk.mutex);
}
