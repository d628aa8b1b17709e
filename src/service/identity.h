/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Who the peers on this host are. Each role runs as a system user of its own, stonechat-ROLE, and the kernel
 * tells the user id at the other end of a socket; so a role that was broken into cannot pass for another.
 *
 * Root may be any role: it could become each of these users anyway. So may a process of our own user when
 * that is the user of no role, as when a developer runs the programs. */

#include "rpc/rpc.h"

/* Looks the users up. Blocks (NSS), so it belongs to the start of a process, and users that are made later
 * are not known. A user that does not exist is no error: no peer has its id. */
int identity_load(void);

/* RpcServerHandlers.identify; userdata is not used. -EPERM: it is none of us. */
int identity_of_peer(const RpcIdentity *identity, Role *ret, void *userdata);

/* The same without the process: `uids` has the id of each role's user, (uid_t) -1 for none. */
int identity_find(const uid_t uids[static _ROLE_MAX], uid_t own, const RpcIdentity *identity, Role *ret);
