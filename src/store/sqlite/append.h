/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The log of a conversation: appending entries, finding those that are stored already, deleting the oldest.
 */

#include "store/operation.h"
#include "store/sqlite/connection.h"
#include "store/sqlite/seq-cache.h"

typedef struct Appender {
        SqliteConnection *connection; /* the writer's */
        SeqCache *last_seqs; /* cleared after a rollback, and when entries are written in other ways */
        const MessageInfo *info; /* of Sc__Message; NULL if the store has none */
        const IndexInfo *by_client_id; /* unique: (sender, client_msg_id) */
        unsigned conversation, seq, client_msg_id; /* fields */
} Appender;

/* -EINVAL if there is a message record but not as expected. */
int appender_init(Appender *appender, SqliteConnection *connection, const MessageInfo *const *records);
void appender_done(Appender *appender);
/* Forgets where conversations stand. */
void appender_forget(Appender *appender);
/* The same, when there is nothing to do: its memory goes as well. */
void appender_give_back(Appender *appender);

/* Inside the writer's transaction. Sets the outcome of the operation and answers 0, or a negative errno if
 * the engine failed. */
int appender_run(Appender *appender, Operation *operation);
int appender_delete(Appender *appender, Operation *operation);
