/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* gateway.attach and gateway.detach: registering the connections of gateways, and the queue of batches that
 * wait to be worked on. */

#include "group/role-state.h"

/* Batches worked on at the same time; the others wait: a gateway that comes back attaches all its clients. */
#define ATTACH_MAX_CONCURRENT 4U

int attach_queue_new(AttachQueue **ret);
/* When no fiber is left. */
AttachQueue *attach_queue_free(AttachQueue *queue);
DEFINE_CLEANUP(AttachQueue *, attach_queue_free);

/* The gateway is gone: what it has asked for is not done any more. */
void attach_queue_forget_gateway(GroupRole *role, const void *gateway);
