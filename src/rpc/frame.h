/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The framing of rpc/rpc.h on its own: pure functions, fuzzed. */

#include "rpc/rpc.h"
#include "util/bytes.h"

/* Looks for one frame at the start of the data: 1 and the envelope's place and size, 0 if more bytes are
 * needed, -EMSGSIZE if its length is above RPC_MAX_FRAME, -EBADMSG if it is zero. */
int frame_find(const uint8_t *data, size_t size, const uint8_t **ret_envelope, size_t *ret_size);

/* Appends length and packed envelope. -EMSGSIZE above RPC_MAX_FRAME; buffer errors stick. */
int frame_append(Buffer *out, const Sc__Envelope *envelope);
