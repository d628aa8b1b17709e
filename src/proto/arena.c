/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/arena.h"

#include <stdarg.h>
#include <stdio.h>

/* The first block holds an ordinary request; the next ones double up to the largest. What is large beside
 * the block in use gets one of its own, so that little of that block is wasted. */
#define BLOCK_SIZE_FIRST 1024U
#define BLOCK_SIZE_MAX 65536U

/* AddressSanitizer sees a read beyond the end only where the block ends too. */
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define EXACT_BLOCKS true
#endif
#endif
#if !defined(EXACT_BLOCKS) && defined(__SANITIZE_ADDRESS__)
#define EXACT_BLOCKS true
#elif !defined(EXACT_BLOCKS)
#define EXACT_BLOCKS false
#endif

struct ArenaBlock {
        ArenaBlock *next;
        size_t size, used; /* of data */
        _Alignas(max_align_t) uint8_t data[];
};

static void *protobuf_alloc(void *data, size_t size) {
        return arena_alloc(data, size);
}

static void protobuf_free(void *data, void *pointer) {
}

void arena_init(Arena *arena, size_t limit) {
        *arena = (Arena){
                .allocator = {.alloc = protobuf_alloc, .free = protobuf_free, .allocator_data = arena},
                .limit = limit,
        };
}

void arena_done(Arena *arena) {
        for (ArenaBlock *next, *block = arena->blocks; block; block = next) {
                next = block->next;
                free(block);
        }
        arena->blocks = arena->last = NULL;
        arena->used = 0;
        arena->exhausted = false;
}

void arena_adopt(Arena *to, Arena *from) {
        if (from->blocks) {
                /* Inserted behind the block in use, which has room left. */
                ArenaBlock **place = to->blocks ? &to->blocks->next : &to->blocks;
                from->last->next = *place;
                if (!*place)
                        to->last = from->last;
                *place = from->blocks;
        }
        from->blocks = from->last = NULL;
        from->used = 0;
        from->exhausted = false;
}

static ArenaBlock *block_new(size_t size) {
        ArenaBlock *block = malloc(sizeof(ArenaBlock) + size);

        if (block) {
                block->size = size;
                block->used = 0;
                block->next = NULL;
        }
        return block;
}

/* A new block with room for `size` bytes; the first of the list is the one in use. */
static ArenaBlock *add_block(Arena *arena, size_t size) {
        ArenaBlock *current = arena->blocks;
        size_t usual = current ? MIN(current->size * 2, (size_t) BLOCK_SIZE_MAX) : BLOCK_SIZE_FIRST;
        bool alone = EXACT_BLOCKS || (current && size > usual / 4);
        ArenaBlock *block = block_new(alone ? size : MAX(usual, size));

        if (!block)
                return NULL;
        ArenaBlock **place = alone && current ? &current->next : &arena->blocks;
        block->next = *place;
        if (!*place)
                arena->last = block;
        return *place = block;
}

static void *allocate(Arena *arena, size_t size, size_t alignment) {
        ArenaBlock *block = arena->blocks;
        size_t padding = block ? -block->used & (alignment - 1) : 0;

        if (size > arena->limit - arena->used)
                goto fail;
        if (EXACT_BLOCKS || !block || block->size - block->used < padding ||
                block->size - block->used - padding < size) {
                block = add_block(arena, size);
                padding = 0;
        } else if (size + padding > arena->limit - arena->used)
                goto fail;
        if (!block)
                goto fail;
        void *p = block->data + block->used + padding;
        block->used += padding + size;
        arena->used += padding + size;
        return p;
fail:
        arena->exhausted = true;
        return NULL;
}

void *arena_alloc(Arena *arena, size_t size) {
        /* Of size 0: an address of its own all the same, as from malloc(). */
        return allocate(arena, MAX(size, (size_t) 1), alignof(max_align_t));
}

void *arena_alloc0(Arena *arena, size_t size) {
        void *p = arena_alloc(arena, size);
        return p ? memset(p, 0, size) : NULL;
}

void *arena_memdup(Arena *arena, const void *data, size_t size) {
        void *p = arena_alloc(arena, size);
        if (p && size > 0)
                memcpy(p, data, size);
        return p;
}

char *arena_strndup(Arena *arena, const char *s, size_t size) {
        if (size == SIZE_MAX)
                return NULL;
        char *copy = allocate(arena, size + 1, 1);
        if (!copy)
                return NULL;
        if (size > 0)
                memcpy(copy, s, size);
        copy[size] = 0;
        return copy;
}

char *arena_strdup(Arena *arena, const char *s) {
        return arena_strndup(arena, s, strlen(s));
}

char *arena_printf(Arena *arena, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        int n = vsnprintf(NULL, 0, format, ap);
        va_end(ap);
        if (n < 0)
                return NULL;
        char *s = allocate(arena, (size_t) n + 1, 1);
        if (!s)
                return NULL;
        va_start(ap, format);
        vsnprintf(s, (size_t) n + 1, format, ap);
        va_end(ap);
        return s;
}

ProtobufCMessage *arena_new_message(Arena *arena, const ProtobufCMessageDescriptor *descriptor) {
        ProtobufCMessage *message = arena_alloc(arena, descriptor->sizeof_message);

        if (message)
                protobuf_c_message_init(descriptor, message);
        return message;
}

int arena_unpack(Arena *arena, const ProtobufCMessageDescriptor *descriptor, const void *data, size_t size,
        ProtobufCMessage **ret) {
        arena->exhausted = false;
        ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &arena->allocator, size, data);
        if (!message)
                return arena->exhausted ? -ENOMEM : -EBADMSG;
        *ret = message;
        return 0;
}
