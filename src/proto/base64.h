/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Standard base64 (RFC 4648, section 4), with padding. Only the canonical form is read, so that a value has
 * one text. */

#include "util/macro.h"

#define BASE64_SIZE(size) (((size) + 2) / 3 * 4)

/* Writes BASE64_SIZE(size) characters and no NUL. */
void base64_encode(const uint8_t *data, size_t size, char *out);

/* Writes at most size / 4 * 3 bytes. -EINVAL for anything else than canonical base64. */
int base64_decode(const char *text, size_t size, uint8_t *out, size_t *ret_size);
