/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A disk for SQLite that fails on demand. It lies over the real one, counts writes, truncations and syncs,
 * and knows what would be left if the power went now: what was synced, and an arbitrary part of the rest. */

#include <stdbool.h>

typedef enum Fault {
        FAULT_NONE,
        FAULT_ERROR, /* operation number `first` and `count` - 1 more fail with an I/O error */
        FAULT_FULL, /* the same, but only writes, for want of space */
        FAULT_CRASH, /* before operation number `first` the power goes: everything fails from there on */
} Fault;

/* It seems to be one that may damage what lies beside a write; otherwise, as SQLite's own VFS, one that does not.
 * Counts for files that are opened from then on. */
extern bool fault_vfs_damages;

/* Makes it SQLite's default. Once a process. */
void fault_vfs_register(void);

/* Forgets all files: none may be open. */
void fault_vfs_forget(void);
/* Starts to count at 1. */
void fault_vfs_arm(Fault fault, unsigned first, unsigned count);
/* Operations since then. */
unsigned fault_vfs_n_operations(void);
/* All works again. Answers whether the fault happened. */
bool fault_vfs_disarm(void);

/* After FAULT_CRASH: writes what was left of the files, whose names it keeps, to a directory. What was not
 * synced is there or not, by sectors, as the seed decides. */
void fault_vfs_restore(const char *directory, unsigned seed);
