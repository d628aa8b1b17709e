/* SPDX-License-Identifier: Apache-2.0 */
#include "util/bytes.h"

Bytes *bytes_new(size_t size) {
        Bytes *bytes = malloc(sizeof(Bytes) + size);
        if (!bytes)
                return NULL;
        bytes->n_ref = 1;
        bytes->size = size;
        return bytes;
}

Bytes *bytes_new_copy(const void *data, size_t size) {
        Bytes *bytes = bytes_new(size);
        if (bytes && size > 0)
                memcpy(bytes->data, data, size);
        return bytes;
}

Bytes *bytes_ref(Bytes *bytes) {
        assert_se(bytes->n_ref > 0 && bytes->n_ref < UINT32_MAX);
        bytes->n_ref++;
        return bytes;
}

Bytes *bytes_unref(Bytes *bytes) {
        if (bytes && --bytes->n_ref == 0)
                free(bytes);
        return NULL;
}

uint8_t *buffer_reserve(Buffer *buffer, size_t n) {
        size_t needed;

        if (buffer->error < 0)
                return NULL;
        if (__builtin_add_overflow(buffer->size, n, &needed) ||
                (buffer->limit > 0 && needed > buffer->limit)) {
                buffer->error = -ENOBUFS;
                return NULL;
        }
        /* An empty buffer has an address, too, even if nothing was asked for. */
        if (needed > buffer->allocated || !buffer->data) {
                size_t allocate = MAX(needed, MAX(buffer->allocated * 2, (size_t) 256));
                uint8_t *data = realloc(buffer->data, allocate);
                if (!data) {
                        buffer->error = -ENOMEM;
                        return NULL;
                }
                buffer->data = data;
                buffer->allocated = allocate;
        }
        return buffer->data + buffer->size;
}

void buffer_commit(Buffer *buffer, size_t n) {
        assert_se(n <= buffer->allocated - buffer->size);
        buffer->size += n;
}

int buffer_append(Buffer *buffer, const void *data, size_t size) {
        uint8_t *end = buffer_reserve(buffer, size);
        if (!end)
                return buffer->error;
        if (size > 0)
                memcpy(end, data, size);
        buffer_commit(buffer, size);
        return 0;
}

int buffer_append_string(Buffer *buffer, const char *s) {
        return buffer_append(buffer, s, strlen(s));
}

void buffer_consume(Buffer *buffer, size_t n) {
        assert_se(n <= buffer->size);
        buffer->size -= n;
        if (n > 0 && buffer->size > 0)
                memmove(buffer->data, buffer->data + n, buffer->size);
}

void buffer_done(Buffer *buffer) {
        free(buffer->data);
        *buffer = (Buffer){};
}
