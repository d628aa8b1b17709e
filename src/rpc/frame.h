/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The framing of rpc/rpc.h on its own: pure functions, fuzzed. */

#include "proto/arena.h"
#include "rpc/rpc.h"
#include "util/bytes.h"

#define FRAME_HEADER_SIZE 4U
#define FRAME_MAX_METHOD 64U /* bytes of a method's name */

/* Looks for one frame at the start of the data: 1 and the envelope's place and size, 0 if more bytes are
 * needed, -EMSGSIZE if its length is above RPC_MAX_FRAME, -EBADMSG if it is zero. */
int frame_find(const uint8_t *data, size_t size, const uint8_t **ret_envelope, size_t *ret_size);

/* Appends length and packed envelope. -EMSGSIZE above RPC_MAX_FRAME, or the buffer's error. On failure
 * nothing is appended. */
int frame_append(Buffer *out, const Sc__Envelope *envelope);

/* Bytes of memory that the envelope of a frame of this size may take. Its fields are copied once; what needs
 * much more (unknown fields, repeated submessages) was made to exhaust memory. */
static inline size_t frame_arena_limit(size_t size) {
        return 2 * size + 16384;
}

/* Unpacks an envelope and checks its shape: requests have an id and a method, responses and cancellations an id,
 * pushes a method and no id, the others no id, a HELLO says who it is, a trace has 16 bytes. -EBADMSG
 * otherwise, -ENOMEM at the arena's limit. */
int frame_unpack(Arena *arena, const uint8_t *data, size_t size, Sc__Envelope **ret);
