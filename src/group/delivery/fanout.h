/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Pushes to the gateways: packed once, sent to each gateway that has somebody who is meant. A push that is
 * lost costs nothing but time: what is durable has a seq, and the next one shows the gap. */

#include "group/conversation/conversation.h"

/* An entry that was committed. `trace` may be NULL. */
void fanout_message(GroupRole *role, Sc__Message *message, const Trace *trace);
void fanout_receipt(
        GroupRole *role, const char *conversation, const char *user, uint64_t read_seq, const Trace *trace);
/* The user is a member now: to the gateways where the user is. */
void fanout_membership(
        GroupRole *role, const char *user, const Conversation *conversation, const Trace *trace);
void fanout_kick(GroupRole *role, const char *user, const char *session, const Trace *trace);
