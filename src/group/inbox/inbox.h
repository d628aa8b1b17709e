/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A user's inbox: a record for each of the user's conversations, the sessions that were ended, and a log, the
 * personal conversation "#" and the user. All of it is one partition, and it changes only by followers of
 * entries of the log. All of these may suspend. */

#include "group/conversation/conversation.h"

#define INBOX_MAX_FOLLOWERS SEQUENCE_MAX_FOLLOWERS

/* The user's log, loaded and pinned; created if need be. */
int inbox_open(GroupRole *role, const char *user, Conversation **ret);
/* Creates the logs of these, each once, which are pinned and were not found; all are loaded then. */
int inboxes_create(GroupRole *role, Conversation *const *inboxes, size_t n);

/* The same for a call that delivers an intent: 1 if that was taken in before, 0 if it was not. */
int inbox_open_for_intent(Call *call, const char *user, Conversation **ret);

/* Appends an event, which the call's intent causes, and with it changes the inbox: 0, or 1 if the event of
 * this intent was there already and nothing was changed. `followers` has room for one more. */
int inbox_append(
        Call *call, Conversation *inbox, Sc__Event *event, StoreItem *followers, size_t n_followers);

/* The conversations in the inbox, by id, at most max; further ones are left out, and logged. */
int inbox_read(
        GroupRole *role, Arena *arena, const char *user, size_t max, Sc__InboxEntry ***ret, size_t *ret_n);
