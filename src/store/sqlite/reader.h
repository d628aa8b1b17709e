/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Threads that read from an SQLite store, each on a connection of its own. A read sees all that was
 * committed before it began, so any write that completed before its submission. */

#include "store/sqlite/connection.h"
#include "store/store-backend.h"

typedef struct Readers Readers;

int readers_start(Readers **ret, Store *store, const StoreConfig *config, const char *path);
/* Operations not begun are handed back with -ECANCELED. */
Readers *readers_stop(Readers *readers);

void readers_submit(Readers *readers, Operation *operation);
bool readers_are_alive(Readers *readers, uint64_t max_busy_usec);
