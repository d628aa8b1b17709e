/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What belongs to no conversation is told to a user in the personal conversation, which is created with the
 * first attach or event. */

#include "group/create.h"

/* Fills in what creates this user's personal conversation; the caller sets conversation and done. */
void personal_create_init(Create *create, const char *user);

/* Appends that the user is a member of a conversation now. Nobody waits for it: a failure is logged, and the
 * next attach shows the conversation anyway. The same event again is stored once. */
void event_conversation_added(GroupRole *role, const char *user, const Conversation *conversation,
        const char *by, const Trace *trace);
