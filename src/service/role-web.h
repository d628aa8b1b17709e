/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* For RoleHooks.web of the roles that serve HTTP or WebSocket. A role that does not name it does not map
 * libwebsockets and libuv. */

#include "service/role.h"

extern const RoleWeb role_web;
