/* SPDX-License-Identifier: Apache-2.0 */
#include "web/http-chunked.h"

#include <ctype.h>

/* 15 hexadecimal digits are less than 2^60. */
#define DIGITS_MAX 15U

static bool is_space(char c) {
        return c == ' ' || c == '\t';
}

/* tchar of RFC 9110 section 5.6.2 */
static bool is_token(char c) {
        return isalnum((unsigned char) c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_text(char c) {
        return (unsigned char) c >= 0x20 ? c != 0x7f : c == '\t';
}

static int add_digit(HttpChunked *c, char digit) {
        char lower = (char) (digit | 0x20);

        if (++c->n_digits > DIGITS_MAX)
                return -EBADMSG;
        c->left = c->left << 4 | (uint64_t) (digit <= '9' ? digit - '0' : lower - 'a' + 10);
        return 0;
}

/* Goes on behind the size: an extension, or the end of the line, if that may stand here. */
static int end_of_part(HttpChunked *c, char byte, bool line_may_end) {
        if (byte == ';')
                c->state = HTTP_CHUNK_NAME_BEGIN;
        else if (byte == '\r' && line_may_end)
                c->state = HTTP_CHUNK_LF;
        else
                return -EBADMSG;
        return 0;
}

static int size_byte(HttpChunked *c, char byte) {
        if (isxdigit((unsigned char) byte))
                return add_digit(c, byte);
        if (c->n_digits == 0)
                return -EBADMSG;
        if (is_space(byte)) {
                c->state = HTTP_CHUNK_SIZE_SPACE;
                return 0;
        }
        return end_of_part(c, byte, true);
}

static int to(HttpChunked *c, HttpChunkState state) {
        c->state = state;
        return 0;
}

/* chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ) */
static int extension_byte(HttpChunked *c, char byte) {
        switch (c->state) {
        case HTTP_CHUNK_SIZE_SPACE:
        case HTTP_CHUNK_VALUE_SPACE:
                return is_space(byte) ? 0 : end_of_part(c, byte, false);
        case HTTP_CHUNK_NAME_BEGIN:
                if (is_space(byte))
                        return 0;
                return is_token(byte) ? to(c, HTTP_CHUNK_NAME) : -EBADMSG;
        case HTTP_CHUNK_NAME:
        case HTTP_CHUNK_NAME_SPACE:
                if (byte == '=')
                        return to(c, HTTP_CHUNK_VALUE_BEGIN);
                if (is_space(byte))
                        return to(c, HTTP_CHUNK_NAME_SPACE);
                if (c->state == HTTP_CHUNK_NAME && is_token(byte))
                        return 0;
                return end_of_part(c, byte, c->state == HTTP_CHUNK_NAME);
        case HTTP_CHUNK_VALUE_BEGIN:
                if (is_space(byte))
                        return 0;
                if (byte == '"')
                        return to(c, HTTP_CHUNK_QUOTED);
                return is_token(byte) ? to(c, HTTP_CHUNK_VALUE) : -EBADMSG;
        case HTTP_CHUNK_QUOTED:
                if (byte == '"')
                        return to(c, HTTP_CHUNK_VALUE_END);
                if (byte == '\\')
                        return to(c, HTTP_CHUNK_ESCAPED);
                return is_text(byte) ? 0 : -EBADMSG;
        case HTTP_CHUNK_ESCAPED:
                return is_text(byte) ? to(c, HTTP_CHUNK_QUOTED) : -EBADMSG;
        default: /* HTTP_CHUNK_VALUE, HTTP_CHUNK_VALUE_END */
                if (is_space(byte))
                        return to(c, HTTP_CHUNK_VALUE_SPACE);
                if (c->state == HTTP_CHUNK_VALUE && is_token(byte))
                        return 0;
                return end_of_part(c, byte, true);
        }
}

static int trailer_byte(HttpChunked *c, char byte) {
        switch (c->state) {
        case HTTP_CHUNK_TRAILER:
                if (byte == '\r')
                        return to(c, HTTP_CHUNK_END_LF);
                return is_token(byte) ? to(c, HTTP_CHUNK_TRAILER_NAME) : -EBADMSG;
        case HTTP_CHUNK_TRAILER_NAME:
                if (byte == ':')
                        return to(c, HTTP_CHUNK_TRAILER_VALUE);
                return is_token(byte) ? 0 : -EBADMSG;
        default: /* HTTP_CHUNK_TRAILER_VALUE */
                if (byte == '\r')
                        return to(c, HTTP_CHUNK_TRAILER_LF);
                return is_text(byte) ? 0 : -EBADMSG;
        }
}

static int expect(HttpChunked *c, char byte, char expected, HttpChunkState next) {
        return byte == expected ? to(c, next) : -EBADMSG;
}

/* A byte that is no data. */
static int control_byte(HttpChunked *c, char byte) {
        switch (c->state) {
        case HTTP_CHUNK_SIZE:
                return size_byte(c, byte);
        case HTTP_CHUNK_LF:
                c->n_digits = 0;
                return expect(c, byte, '\n', c->left > 0 ? HTTP_CHUNK_DATA : HTTP_CHUNK_TRAILER);
        case HTTP_CHUNK_DATA_CR:
                return expect(c, byte, '\r', HTTP_CHUNK_DATA_LF);
        case HTTP_CHUNK_DATA_LF:
                return expect(c, byte, '\n', HTTP_CHUNK_SIZE);
        case HTTP_CHUNK_TRAILER_LF:
                return expect(c, byte, '\n', HTTP_CHUNK_TRAILER);
        case HTTP_CHUNK_END_LF:
                return expect(c, byte, '\n', HTTP_CHUNK_DONE);
        default:
                if (++c->n_extra > HTTP_CHUNK_EXTRA_MAX)
                        return -EBADMSG;
                return c->state >= HTTP_CHUNK_TRAILER ? trailer_byte(c, byte) : extension_byte(c, byte);
        }
}

ssize_t http_chunked_decode(HttpChunked *c, const char *data, size_t size, size_t room, Buffer *out) {
        size_t at = 0;

        while (at < size && c->state != HTTP_CHUNK_DONE) {
                if (c->state != HTTP_CHUNK_DATA) {
                        int r = control_byte(c, data[at++]);
                        if (r < 0)
                                return r;
                        continue;
                }
                size_t n = MIN(MIN(size - at, room), c->left);
                if (n == 0)
                        break;
                int r = buffer_append(out, data + at, n);
                if (r < 0)
                        return r;
                at += n;
                room -= n;
                c->left -= n;
                c->n_extra -= (unsigned) MIN((size_t) c->n_extra, n / 16);
                if (c->left == 0)
                        c->state = HTTP_CHUNK_DATA_CR;
        }
        return (ssize_t) at;
}
