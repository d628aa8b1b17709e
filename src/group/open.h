/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* conversation.open_direct. */

#include "group/group-role.h"

/* Fails the calls that wait for the api role; its answers are ignored from now on. */
void opens_cancel(GroupRole *role);
