/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Appending messages: their places, and the duplicates among them. */

#include "store/operation.h"
#include "store/seq-cache.h"
#include "store/sqlite-connection.h"

typedef struct Appender {
        Connection *connection; /* the writer's */
        SeqCache *last_seqs; /* cleared after a rollback, and when messages are written in other ways */
        const MessageInfo *info; /* of Sc__Message; NULL if the store has none */
        const IndexInfo *by_client_id; /* unique: (sender, client_msg_id) */
        unsigned conversation, seq, created_at; /* fields */
} Appender;

/* -EINVAL if there is a message record but not as expected. */
int appender_init(Appender *appender, Connection *connection, const MessageInfo *const *records);
void appender_done(Appender *appender);

/* Inside the writer's transaction. Sets the outcome of the operation and answers 0, or a negative errno if
 * the engine failed. */
int appender_run(Appender *appender, Operation *operation);
