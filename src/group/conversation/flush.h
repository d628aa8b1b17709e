/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What follows from the log and is kept in memory first: the head of a conversation (how far it is), and the
 * cursors of those who sent. Both are written together, one write a conversation, at most once a second; a
 * conversation stays in memory until then. A crash loses nothing: whoever loads the conversation reads the
 * entries behind the stored head, and finds both again (load.c). Personal conversations have no head.
 *
 * The time of the last entry, by which the list of conversations is ordered, is stored with the first append of
 * each second, for a list reads it of conversations that nobody loads. So after a crash the order is wrong
 * between conversations of the same second at most. */

#include "group/conversation/conversation.h"

#define FLUSH_INTERVAL_USEC (1000 * 1000ULL)
#define FLUSH_MAX_MEMBERS 200U /* cursors in one write; further ones are in the next */

int cursor_flush_new(CursorFlush **ret, GroupRole *role);
/* When the store is closed. */
CursorFlush *cursor_flush_free(CursorFlush *flush);
DEFINE_CLEANUP(CursorFlush *, cursor_flush_free);

/* This entry stands at the end of the log now: the head and the sender's cursor follow. */
void conversation_note_entry(Conversation *conversation, const Sc__Message *entry);
/* The two halves of it. */
void conversation_note_sender(Conversation *conversation, const Sc__Message *entry);
void conversation_flush_later(Conversation *conversation);

/* What an append of entries up to this one has as a follower, if the time is due: 1, or 0. `head` lives as long
 * as the item. */
size_t conversation_activity_follower(
        Conversation *conversation, const Sc__Message *entry, Sc__ConversationHead *head, StoreItem *ret);

/* Submits all that is waiting, at once: before the store is closed. */
void cursor_flush_all(CursorFlush *flush);
