/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Bringing in what the store knows of conversations. Each is loaded once at a time, whoever waits for it. All
 * of these may suspend. */

#include "group/conversation/conversation.h"

/* The conversation must be pinned. 1: it is loaded; 0: there is none; or the store's error. */
int conversation_load(Conversation *conversation);
/* The same for many, with as few submissions as they need: 0, those that exist are loaded then. */
int conversations_load(GroupRole *role, Conversation *const *conversations, size_t n);
/* conversations_get() and conversation_load(): 1 and the pinned entry if it is loaded; 0 and the pinned entry
 * if there is none. */
int conversation_open(GroupRole *role, const char *id, Conversation **ret);
