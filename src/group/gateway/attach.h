/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* gateway.attach and gateway.detach. */

#include "group/role-state.h"

#define ATTACH_MAX_CONCURRENT 16U /* the others wait: a gateway that comes back attaches all its clients */
/* Of one user; further ones are left out, and logged. A client that comes back tells its position in each,
 * some 120 bytes in JSON, in one frame of at most [Socket] MaxFrame= (512 KiB); an SDK whose frame is too
 * large stays away. */
#define ATTACH_MAX_CONVERSATIONS 4000U
#define ATTACH_CHUNK 32U /* conversations recovered by one read of the store */
#define ATTACH_MAX_RECOVERY_BYTES (512U << 10) /* of one conversation */

/* Those that wait, and the fibers that work for them. */
int attach_queue_new(AttachQueue **ret);
/* When no fiber is left. */
AttachQueue *attach_queue_free(AttachQueue *queue);
DEFINE_CLEANUP(AttachQueue *, attach_queue_free);
