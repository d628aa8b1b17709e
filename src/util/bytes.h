/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Two kinds of byte strings.
 *
 * Bytes: immutable, reference-counted, for one encoded frame in the queues of many sessions. Not
 * thread-safe: it stays on its loop.
 *
 * Buffer: grows at the end, up to a limit. Zero-initialise it; errors stick, so that a series of appends
 * needs one check at the end. */

#include <stdbool.h>

#include "util/macro.h"

typedef struct Bytes {
        unsigned n_ref;
        size_t size;
        uint8_t data[];
} Bytes;

/* An uninitialised one of this size, to be filled before it is shared; NULL when out of memory. */
Bytes *bytes_new(size_t size);
Bytes *bytes_new_copy(const void *data, size_t size);
Bytes *bytes_ref(Bytes *bytes);
Bytes *bytes_unref(Bytes *bytes);
DEFINE_CLEANUP(Bytes *, bytes_unref);

typedef struct Buffer {
        uint8_t *data;
        size_t size;
        size_t allocated;
        size_t limit; /* 0: none */
        int error; /* the first failure: -ENOMEM or -ENOBUFS (limit reached) */
} Buffer;

/* Room for n more bytes at the end, which buffer_commit() then counts in; NULL on failure. */
uint8_t *buffer_reserve(Buffer *buffer, size_t n);
void buffer_commit(Buffer *buffer, size_t n);
int buffer_append(Buffer *buffer, const void *data, size_t size);
int buffer_append_string(Buffer *buffer, const char *s);
/* Removes the first n bytes. */
void buffer_consume(Buffer *buffer, size_t n);
void buffer_done(Buffer *buffer);
#define _cleanup_buffer_ _cleanup_(buffer_done)
