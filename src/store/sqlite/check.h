/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Looks for damage in an SQLite store, on a thread and a connection of its own: what SQLite itself finds,
 * gaps in the sequence numbers of conversations, and counts that go back. It reads the whole database: while
 * it does, the write-ahead log cannot start over and grows. */

#include "store/store-backend.h"

typedef struct Checker Checker;

int checker_start(Checker **ret, Store *store, const StoreConfig *config, const char *path);
/* Interrupts a check that is running: -ECANCELED. */
Checker *checker_stop(Checker *checker);
void checker_submit(Checker *checker, Operation *operation);
