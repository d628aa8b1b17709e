/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What one connection sends into one conversation is stored in the order in which it was sent. While some of it is
 * under way, the connection remembers it as a run; its calls have the same `order` (service/runs.h), by which group
 * keeps them in order, too.
 *
 * When one fails for a reason that may pass, those behind it fail with it, and so does whatever the client sent before
 * it heard of that: the refusal goes out behind a ping, in the same message, and all that comes before the pong is
 * refused in the same way. (A ping behind the refusal would not do: a client that answers it by its next message would
 * be refused for ever.) */

#include "schema-tables.h"
#include "service/call.h"
#include "service/runs.h"
#include "socket/connection/connection.h"

/* A message on its way. */
typedef struct RunSend {
        SendRun *run; /* NULL: in none */
        TAILQ_ENTRY(RunSend) entry;
        Call *call;
        Sc__ErrorCode overruled; /* what it failed with in truth, when it was cancelled for one before it */
} RunSend;

/* Gives the call its order. False after failing it, as the run is broken, or for lack of memory; then nothing has been
 * done with `send`. */
bool send_run_join(RunSend *send, Connection *connection, Call *call, const Sc__SendRequest *request);
/* It is answered: takes it out of its run. */
void send_run_leave(RunSend *send);

/* A message fails, and the client is about to be told: nothing, unless the reason may pass. `conversation` may be
 * NULL. */
void send_run_break(Connection *connection, const char *conversation, Sc__ErrorCode code);
/* After that: cancels those behind it, which are answered before this returns. Leaves the run. */
void send_run_fail(RunSend *send, Sc__ErrorCode code);

/* A pong came: connection->n_pongs has changed. */
void send_runs_on_pong(Connection *connection);
/* The connection ends; its calls are in no run any more. */
void send_runs_abandon(Connection *connection);
