/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The listening sockets of a process: those that systemd passed in, by FileDescriptorName=, and, for tests
 * and trying out, those asked for by --listen NAME=ADDRESS. */

#include "util/macro.h"

typedef struct ListenSockets ListenSockets;

/* Takes over what sd_listen_fds_with_names(3) finds. */
int listen_sockets_new(ListenSockets **ret);
/* Closes what nobody took. */
ListenSockets *listen_sockets_free(ListenSockets *sockets);
DEFINE_CLEANUP(ListenSockets *, listen_sockets_free);

/* NAME=HOST:PORT (numeric, IPv6 in brackets) or NAME=/PATH: -EINVAL if it is neither. A stale socket file is
 * replaced. */
int listen_sockets_add(ListenSockets *sockets, const char *assignment);

/* The next listening stream socket of that name, which the caller then owns; -ENOENT if there is no more. */
int listen_sockets_take(ListenSockets *sockets, const char *name);
