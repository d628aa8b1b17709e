/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The target of an HTTP request (RFC 9112 section 3.2) and its parts, decoded in place. */

#include <stdbool.h>

#include "util/macro.h"

typedef struct HttpTarget {
        char *path; /* "*" for that of OPTIONS */
        char *query; /* as it came, without '?'; NULL: none */
        char *authority; /* of an absolute target; NULL: of another */
} HttpTarget;

/* Takes origin-form ("/path?query"), absolute-form ("http://host/path") and, with OPTIONS, asterisk-form ("*");
 * -EBADMSG for anything else. `target` is NUL-terminated; the parts point into it.
 *
 * The path is normalised: all escapes are decoded but %2F and %25, which stay as they are, written in capitals.
 * So "/" always separates segments, and http_percent_decode() of a segment is its text. No segment is "." or
 * "..", also not between escaped slashes. UTF-8, without control characters. */
int http_target_parse(char *target, const char *verb, HttpTarget *ret);

/* "host[:port]": a name, an IPv4 address, or an IPv6 address in brackets. */
bool http_authority_is_valid(const char *authority);

/* Decodes %XX in place (and '+' to a space, as in queries): the new length, or -EINVAL for a bad escape, a
 * control character or what is not UTF-8 afterwards. s is NUL-terminated before and after. */
int http_percent_decode(char *s, bool plus);
