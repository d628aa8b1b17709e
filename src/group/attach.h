/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* gateway.attach. */

#include "group/group-role.h"

#define ATTACH_MAX_CONCURRENT 16U /* the others wait: a gateway that comes back attaches all its clients */
#define ATTACH_MAX_CONVERSATIONS 10000U /* of one user; further ones are left out, and logged */
#define ATTACH_CHUNK 32U /* conversations recovered by one read of the store */
#define ATTACH_MAX_RECOVERY_BYTES (512U << 10) /* of one conversation */

/* Fails the calls that have not begun yet. */
void attaches_cancel(GroupRole *role);
