/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A bump allocator: many small objects that die together, the memory of one request, response or record.
 *
 * It is capped: what a peer sends decides how much is allocated (an empty submessage costs two bytes on the
 * wire and a whole struct in memory), so every arena has a limit, and running into it is an ordinary error
 * (NULL). */

#include <protobuf-c/protobuf-c.h>
#include <stdalign.h>
#include <stdbool.h>

#include "util/macro.h"

typedef struct ArenaBlock ArenaBlock;

typedef struct Arena {
        ProtobufCAllocator allocator; /* allocates here; its free does nothing */
        ArenaBlock *blocks, *last; /* the one in use comes first */
        size_t used, limit; /* bytes handed out, and the most of them */
        bool exhausted; /* an allocation failed */
} Arena;

/* The arena stays where it is: its allocator points to it. */
void arena_init(Arena *arena, size_t limit);
/* Frees all; the arena is empty then, and may be used again. */
void arena_done(Arena *arena);
#define _cleanup_arena_ _cleanup_(arena_done)

/* Moves all that lies in `from` to `to`, where it stays as it is: without copying, and whatever the limit of
 * `to`, against which it does not count. `from` is empty then, and may be used again. */
void arena_adopt(Arena *to, Arena *from);

/* Aligned for any type, uninitialised; NULL at the limit or out of memory. */
void *arena_alloc(Arena *arena, size_t size);
void *arena_alloc0(Arena *arena, size_t size);
void *arena_memdup(Arena *arena, const void *data, size_t size);
char *arena_strndup(Arena *arena, const char *s, size_t size);
char *arena_strdup(Arena *arena, const char *s);
char *arena_printf(Arena *arena, const char *format, ...) _printf_(2, 3);

/* One zeroed object, or n of them. */
#define arena_new(arena, type, n) ((type *) arena_alloc0(arena, sizeof(type) * (n)))

/* A message with all defaults; NULL at the limit or out of memory. */
ProtobufCMessage *arena_new_message(Arena *arena, const ProtobufCMessageDescriptor *descriptor);

/* Unpacks a message into the arena: -EBADMSG if malformed, -ENOMEM at the limit. */
int arena_unpack(Arena *arena, const ProtobufCMessageDescriptor *descriptor, const void *data, size_t size,
        ProtobufCMessage **ret);
