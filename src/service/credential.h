/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The credentials of this service (LoadCredential=, systemd.exec(5)): files in $CREDENTIALS_DIRECTORY.
 *
 * systemd 252 hands them over when a service starts, and never anew. So a reload brings the present ones with
 * it (`stonechatctl reload`, which ExecReload= runs as root), as file descriptors; from then on they stand
 * for the files. */

#include <stddef.h>

#include "util/macro.h"

#define CREDENTIAL_MAX (64U << 10) /* bytes of one that is renewed */

/* A NUL stands behind the content, uncounted. The caller frees it. -ENOENT: there is none of that name;
 * -EFBIG: it is larger than max. */
int credential_read(const char *name, size_t max, char **ret, size_t *ret_size);

/* Reads the file, which stays the caller's, to its end. What was there before is wiped. -EINVAL: no name of a
 * credential; -EBADF: no regular file. */
int credential_renew(const char *name, int fd);

/* For _cleanup_ of a text that is a secret. */
void credential_wipe_and_freep(char **secret);
