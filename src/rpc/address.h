/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where a client connects: the path of an AF_UNIX socket, or HOST:PORT. Names are resolved in a thread of their own,
 * never on the loop; each connection tries the next address found, and when all were tried the name is resolved
 * anew. */

#include <systemd/sd-event.h>

#include "util/macro.h"

typedef struct Address Address;

/* -EINVAL: it is neither. `resolved` is called from the loop when address_connect() has answered -EINPROGRESS. */
int address_new(
        Address **ret, sd_event *event, const char *text, void (*resolved)(void *userdata), void *userdata);
Address *address_free(Address *address);
DEFINE_CLEANUP(Address *, address_free);

/* A non-blocking socket that is connected, or connecting; -EINPROGRESS: the name is being resolved; or why not:
 * -EADDRNOTAVAIL when there is no such name. */
int address_connect(Address *address);
