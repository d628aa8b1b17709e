/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Strings: comparison, formatting, validation. */

#include <stdbool.h>
#include <string.h>

#include "util/macro.h"

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

/* NULL counts as the empty string. */
static inline bool isempty(const char *s) {
        return !s || !*s;
}
static inline const char *strempty(const char *s) {
        return s ?: "";
}

/* The rest of s behind prefix, or NULL if s does not start with it. */
static inline const char *startswith(const char *s, const char *prefix) {
        size_t n = strlen(prefix);
        return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}

/* A new string, or NULL when out of memory; unlike asprintf() nothing is left undefined. */
char *format_string(const char *format, ...) _printf_(1, 2);

/* Is it well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF)? NUL is
 * refused. */
bool utf8_is_valid(const char *s, size_t size);

/* The number of bytes of the well-formed UTF-8 sequence that s (of at least one byte) begins with; 0 if
 * there is none, or it is NUL. */
size_t utf8_sequence(const uint8_t *s, size_t size);

/* Only characters an id may have: A-Z a-z 0-9 - _ . : # @ */
bool identifier_is_valid(const char *s, size_t size);

/* Parses a whole string as a decimal number: -EINVAL for anything else, -ERANGE above max. */
int parse_u64(const char *s, uint64_t max, uint64_t *ret);

/* Parses a duration such as "30", "500ms", "5min 20s", "1h", "7d" into microseconds. A bare number is
 * seconds. -EINVAL or -ERANGE. */
int parse_duration(const char *s, uint64_t *ret_usec);

/* Parses a size such as "65536", "64K", "1M", "2G" (powers of 1024) into bytes. -EINVAL or -ERANGE. */
int parse_size(const char *s, uint64_t *ret);

/* yes/no, true/false, on/off, 1/0: 1, 0 or -EINVAL. */
int parse_boolean(const char *s);

/* Lower-case hexadecimal of n bytes; out has room for 2 * n + 1. */
void hex_encode(const uint8_t *bytes, size_t n, char *out);
/* The reverse, exactly n bytes: -EINVAL for anything else. */
int hex_decode(const char *hex, uint8_t *out, size_t n);
