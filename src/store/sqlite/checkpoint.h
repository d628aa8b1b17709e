/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Moves what the write-ahead log has gathered into the database, on a thread of its own, so that commits do
 * not wait for it.
 *
 * A passive checkpoint copies the log while the writer goes on writing to it, and so may never reach its
 * end; but only a log that is copied to the end starts again at its beginning. The last bit is therefore the
 * writer's: when asked, it finishes between two transactions. When nothing was written for a while the log
 * is truncated. A checkpoint that fails (the disk is full) loses nothing, and is tried again. */

#include "store/sqlite/connection.h"

typedef struct Checkpointer Checkpointer;

int checkpointer_start(Checkpointer **ret, const char *path);
/* Stops the thread; closing the last connection to the database empties the log. */
Checkpointer *checkpointer_stop(Checkpointer *checkpointer);

bool checkpointer_is_alive(Checkpointer *checkpointer, uint64_t max_busy_usec);
/* After each commit: the log has so many pages. */
void checkpointer_notify(Checkpointer *checkpointer, unsigned n_pages);
/* Writer: is it time to finish on its own connection? Then it calls checkpoint_passive(). */
bool checkpointer_wants_finish(Checkpointer *checkpointer);

/* Copies as much as possible without waiting for anybody; *ret_copied: pages of the log that are copied now.
 */
int checkpoint_passive(SqliteConnection *connection, unsigned *ret_copied);
/* Copies all and truncates the log, waiting for the others as long as the connection does. */
int checkpoint_truncate(SqliteConnection *connection);
