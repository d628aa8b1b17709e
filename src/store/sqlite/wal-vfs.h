/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* SQLite writes its log page by page, two system calls for each, between four pages (one message alone in its
 * commit) and hundreds. This VFS lies over the default one and gathers what a connection writes to its log one
 * behind the other, until the log is synced, read or anything else: then it is one system call. Nobody else reads
 * that part of the log before: SQLite tells the others of a commit when it is synced (synchronous=FULL, and a disk as
 * SQLite takes it to be by default), and we use no other setting. What is lost with the process was not synced, and so
 * would be lost with the machine. */

/* The name to open a database with; NULL: the default, when memory is out. Once, before the first is opened. */
const char *wal_vfs_register(void);
