/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The commands of the client protocol: what each does is in commands.c, connecting and refreshing in
 * connect.c. */

#include "log/trace.h"
#include "service/call.h"
#include "socket/session.h"

/* Handles one command of a session that is OPEN or CONNECTED; it may disconnect the session. `data` (which
 * may be changed) or NULL: see codec_read(). */
void command_handle(Session *session, const Client__Command *command, json_t *data);

/* A command that waits for a method's answer. It outlives its session: then the answer is nobody's. */
struct Pending {
        LIST_ENTRY(Pending) link;
        Session *session; /* NULL: gone */
        uint32_t id;
        Trace trace;
        const MethodInfo *method;
        /* Sends the reply; only called while the session lives and the method succeeded. */
        void (*succeeded)(Pending *pending, const ProtobufCMessage *response);
        /* of "history" */
        char epoch[65]; /* that the client expects, or empty */
        bool reverse, position_only;
};

/* The session goes: forgets it. */
void commands_abandon(Session *session);

/* --- connect.c --- */
void command_connect(Session *session, uint32_t id, const Client__ConnectRequest *request);
void command_refresh(Session *session, uint32_t id, const Client__RefreshRequest *request);
void connecting_abandon(Session *session);
