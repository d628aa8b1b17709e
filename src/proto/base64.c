/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const uint8_t *data, size_t size, char *out) {
        for (; size >= 3; data += 3, size -= 3) {
                uint32_t group = (uint32_t) data[0] << 16 | (uint32_t) data[1] << 8 | data[2];

                *out++ = alphabet[group >> 18];
                *out++ = alphabet[group >> 12 & 63];
                *out++ = alphabet[group >> 6 & 63];
                *out++ = alphabet[group & 63];
        }
        if (size == 0)
                return;
        uint32_t group = (uint32_t) data[0] << 16 | (size == 2 ? (uint32_t) data[1] << 8 : 0);

        *out++ = alphabet[group >> 18];
        *out++ = alphabet[group >> 12 & 63];
        *out++ = size == 2 ? alphabet[group >> 6 & 63] : '=';
        *out++ = '=';
}

/* Six bits, or -1. */
static int digit(char c) {
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four characters into three bytes; those behind the n-th stand for nothing. */
static int decode_group(const char *text, unsigned n, uint8_t out[static 3]) {
        uint32_t group = 0;

        for (unsigned i = 0; i < 4; i++) {
                int value = i < n ? digit(text[i]) : 0;
                if (value < 0)
                        return -EINVAL;
                group = group << 6 | (uint32_t) value;
        }
        out[0] = group >> 16;
        out[1] = group >> 8;
        out[2] = group;
        return 0;
}

int base64_decode(const char *text, size_t size, uint8_t *out, size_t *ret_size) {
        uint8_t *start = out, group[3];

        if (size % 4 != 0)
                return -EINVAL;
        for (; size > 0; text += 4, size -= 4) {
                unsigned n = size > 4 || text[3] != '=' ? 4 : text[2] != '=' ? 3 : 2; /* digits */
                if (decode_group(text, n, group) < 0)
                        return -EINVAL;
                /* The bits that the last digit has too many must be zero. */
                if ((n < 4 && group[2] != 0) || (n < 3 && group[1] != 0))
                        return -EINVAL;
                memcpy(out, group, n - 1);
                out += n - 1;
        }
        *ret_size = out - start;
        return 0;
}
