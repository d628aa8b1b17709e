/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One connection to the server, in pipeline mode on the event loop: it connects, connects again when it was
 * lost, prepares statements when they are first used, and hands results to its owner in the order of what was
 * sent. It knows nothing of operations.
 *
 * Everything up to a sync is a segment: after an error the server skips the rest of it. */

#include <systemd/sd-event.h>

#include "store/postgresql/statement.h"
#include "store/postgresql/target.h"

typedef struct PgConnection PgConnection;

typedef struct PgOwner {
        /* Connected, and set up. */
        void (*ready)(void *userdata);
        /* Of each statement that the owner sent, and of each sync (PGRES_PIPELINE_SYNC). */
        void (*result)(const PGresult *result, void *userdata);
        /* What was sent and not answered has an unknown outcome. It connects again by itself. Never called
         * from inside of pg_connection_…(), but pg_connection_run(). */
        void (*lost)(void *userdata);
} PgOwner;

/* timeout_usec: for connecting, and after which the server gives up a statement. `owner` stays the caller's. */
int pg_connection_new(PgConnection **ret, sd_event *event, const PgTarget *target, uint64_t timeout_usec,
        const PgOwner *owner, void *userdata);
PgConnection *pg_connection_free(PgConnection *c);
DEFINE_CLEANUP(PgConnection *, pg_connection_free);

bool pg_connection_is_ready(const PgConnection *c);

/* Sending: to be called while it is ready. Failures need no handling: the connection is then lost. */

/* A segment of its own, so call it before the one in which the statement is used. Does nothing if the statement
 * is prepared. */
void pg_connection_prepare(PgConnection *c, const PgStatement *statement);
void pg_connection_send(PgConnection *c, const PgStatement *statement, const PgParameters *parameters);
void pg_connection_sync(PgConnection *c);
/* Puts an end to a failed transaction, in a segment of its own whose results the owner does not get. */
void pg_connection_roll_back(PgConnection *c);
/* After the last of what there is to send. */
void pg_connection_flush(PgConnection *c);

/* Is the session inside a transaction that has failed? True as of the last sync. */
bool pg_connection_has_failed_transaction(const PgConnection *c);
/* Has the server warned since the last result? */
bool pg_connection_has_warned(const PgConnection *c);

/* Loses the connection, from the loop. `why` is logged. */
void pg_connection_drop(PgConnection *c, const char *why);

/* Waits without the loop until it is ready, for the beginning; gives up when the time is over, or the connection is
 * lost: then the loop goes on with it. */
void pg_connection_wait_ready(PgConnection *c, uint64_t deadline_usec);
/* Waits without the loop until something happens on the connection and handles it: for the end.
 * -ETIMEDOUT, or -ENOTCONN if it is lost. */
int pg_connection_run(PgConnection *c, uint64_t deadline_usec);
