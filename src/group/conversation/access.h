/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The first step of every method on a conversation: it is loaded, and the user is a member of it. */

#include "group/conversation/conversation.h"

/* For handlers. Loads the conversation, if need be, and answers it pinned; the caller is among its members in
 * memory until the handler suspends. Refused with ERROR_NOT_A_MEMBER, also if there is no such conversation,
 * or ERROR_UNAUTHENTICATED. May suspend. */
int access_conversation(Call *call, const char *id, Conversation **ret);

/* 1: the user is a member of the conversation, which is loaded then; 0: no member, or there is no such
 * conversation; or the store's error. It must be pinned. May suspend. */
int check_member(Conversation *conversation, const char *user);
