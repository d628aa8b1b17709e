/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The first step of every method on a conversation: it is loaded, and the caller is a member of it. */

#include "group/group-role.h"

/* Goes on with a conversation that is loaded, and pinned: the handler unpins it. `member` is the caller,
 * valid until something else is noted in the conversation. */
typedef void (*AccessGranted)(Call *call, Conversation *conversation, const Member *member);

/* Calls granted(), at once if all is known, or fails the call: ERROR_NOT_A_MEMBER for a conversation that is
 * not there too. */
void access_conversation(Call *call, const char *conversation, AccessGranted granted);
