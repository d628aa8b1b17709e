/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the group primaries push: messages and receipts, changes of membership, ended sessions. */

#include "socket/gateway/gateway-state.h"

void gateway_handle_push(Gateway *gateway, const RpcMessage *message);
