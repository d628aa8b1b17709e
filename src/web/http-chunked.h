/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The chunked transfer coding of a request body (RFC 9112 section 7.1), decoded strictly, however its bytes
 * arrive: every line ends with CR LF, extensions have the form that the RFC gives them. Extensions and trailer
 * fields are checked and forgotten; of both together come at most HTTP_CHUNK_EXTRA_MAX bytes, and one more for 16
 * bytes of the body. */

#include <sys/types.h>

#include "util/bytes.h"

#define HTTP_CHUNK_EXTRA_MAX 4096U

typedef enum HttpChunkState {
        HTTP_CHUNK_SIZE, /* the size of the next chunk */
        HTTP_CHUNK_SIZE_SPACE, /* white space, which must be in front of an extension */
        HTTP_CHUNK_NAME_BEGIN, /* behind ';' */
        HTTP_CHUNK_NAME,
        HTTP_CHUNK_NAME_SPACE,
        HTTP_CHUNK_VALUE_BEGIN, /* behind '=' */
        HTTP_CHUNK_VALUE,
        HTTP_CHUNK_QUOTED,
        HTTP_CHUNK_ESCAPED, /* behind a backslash */
        HTTP_CHUNK_VALUE_END, /* behind the closing quote */
        HTTP_CHUNK_VALUE_SPACE,
        HTTP_CHUNK_LF, /* that ends the line of the size */
        HTTP_CHUNK_DATA,
        HTTP_CHUNK_DATA_CR,
        HTTP_CHUNK_DATA_LF,
        HTTP_CHUNK_TRAILER, /* the beginning of a trailer line, or the end */
        HTTP_CHUNK_TRAILER_NAME,
        HTTP_CHUNK_TRAILER_VALUE,
        HTTP_CHUNK_TRAILER_LF,
        HTTP_CHUNK_END_LF,
        HTTP_CHUNK_DONE,
} HttpChunkState;

/* Zero it for each body. */
typedef struct HttpChunked {
        HttpChunkState state;
        unsigned n_digits, n_extra; /* of the size; of extensions and trailers, beyond their share */
        uint64_t left; /* of the chunk */
} HttpChunked;

/* Takes bytes of the coding and appends what they carry, at most `room` bytes. How many it took: fewer than
 * `size` when the body is complete (state HTTP_CHUNK_DONE) or there is no more room. -EBADMSG; -ENOMEM. */
ssize_t http_chunked_decode(HttpChunked *chunked, const char *data, size_t size, size_t room, Buffer *out);
