/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The first frame each way: which version of the frames the peer speaks, and which role it is. Pure functions. */

#include "rpc/rpc.h"

/* The frames as they are, and the oldest ones that we still understand. A new field that may be ignored changes
 * neither. */
#define RPC_VERSION 1U
#define RPC_OLDEST_VERSION 1U

/* An envelope with our own; `hello` must live as long as it. */
Sc__Envelope hello_make(Role role, Sc__Envelope__Hello *hello);
/* 0 and the peer's role, ROLE_NONE for one that we do not know; -EPROTONOSUPPORT when there is no version that
 * both understand. */
int hello_check(const Sc__Envelope__Hello *hello, Role *ret);
