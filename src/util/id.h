/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Identifiers and randomness. All ids are UUIDs in text form (RFC 9562). */

#include "util/macro.h"

#define UUID_TEXT_SIZE 37 /* with the NUL */

/* A new UUIDv7: begins with the time, so that an index over ids grows at its end. As unique_bytes(). */
void uuid_v7(char out[static UUID_TEXT_SIZE]);

/* A UUIDv8 that follows from a name (BLAKE2b-128 of space and name): the same for the same words, on every
 * host. */
void uuid_from_name(const char *space, const char *name, char out[static UUID_TEXT_SIZE]);

/* The id of the direct conversation of two users, whichever is named first: uuid_from_name() of "direct" and
 * the two ids in the order of their bytes, with a blank between them. It names stored data: it never
 * changes. */
void uuid_of_direct(const char *a, const char *b, char out[static UUID_TEXT_SIZE]);

/* n random bytes, fit for keys. */
void random_bytes(void *out, size_t n);

/* n random bytes (at most 512) for an id: from a supply that is filled by one system call for many. Not for
 * keys, as they stay in memory for a while, and not in the child of a fork(), which would give them out
 * again. */
void unique_bytes(void *out, size_t n);

/* The shard of a conversation or user: SipHash-2-4 (libsodium's shorthash, all-zero key) modulo n_shards. A
 * leading '#' does not count, so that the inbox of a user, "#" and the user, has the user's shard. It names
 * stored data's place in a cluster, so it never changes. */
unsigned shard_of(const char *conversation, unsigned n_shards);
#define SHARDS_DEFAULT 256U
