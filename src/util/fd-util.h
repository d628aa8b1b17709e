/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* File descriptors. */

#include <unistd.h>

#include "util/macro.h"

/* Closes fd if it is one, keeps errno, answers -EBADF: `fd = safe_close(fd);` */
static inline int safe_close(int fd) {
        if (fd >= 0) {
                int saved = errno;
                close(fd);
                errno = saved;
        }
        return -EBADF;
}

static inline void closep(int *fd) {
        safe_close(*fd);
}
#define _cleanup_close_ _cleanup_(closep)

/* Reads a whole regular file of at most max bytes; a NUL stands behind the content, uncounted.
 * -EFBIG if it is larger, or what open(2) and read(2) report. */
int read_file(const char *path, size_t max, char **ret, size_t *ret_size);
/* The same from where the descriptor stands, to the end. */
int read_fd(int fd, size_t max, char **ret, size_t *ret_size);

/* A number that changes when the peer of a stream socket takes some of what was written to it: with TCP the bytes it
 * has acknowledged; elsewhere those that it has not read yet. */
uint64_t fd_taken_by_peer(int fd);
