/* SPDX-License-Identifier: Apache-2.0 */
#include "web/http-target.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <strings.h>

#include "util/string-util.h"

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that an escape stands for, or -EINVAL. */
static int unescape(const char *escape) {
        int high = hex_digit(escape[1]), low = high < 0 ? -1 : hex_digit(escape[2]);

        return low < 0 ? -EINVAL : high << 4 | low;
}

/* keep_separators: slashes and percent signs stay escaped. */
static int decode(char *s, bool plus, bool keep_separators) {
        char *out = s;

        for (const char *in = s; *in; in++) {
                int c = (unsigned char) *in;

                if (c == '%') {
                        c = unescape(in);
                        if (c < 0)
                                return -EINVAL;
                        in += 2;
                        if (keep_separators && (c == '/' || c == '%')) {
                                memcpy(out, c == '/' ? "%2F" : "%25", 3);
                                out += 3;
                                continue;
                        }
                } else if (c == '+' && plus)
                        c = ' ';
                if (c < 0x20 || c == 0x7f)
                        return -EINVAL;
                *out++ = (char) c;
        }
        *out = '\0';
        return utf8_is_valid(s, (size_t) (out - s)) ? (int) (out - s) : -EINVAL;
}

int http_percent_decode(char *s, bool plus) {
        return decode(s, plus, false);
}

/* In a normalised path. */
static bool path_has_dots(const char *path) {
        const char *segment = path;

        for (const char *s = path;; s++) {
                bool escaped = startswith(s, "%2F");
                if (*s && *s != '/' && !escaped)
                        continue;
                size_t n = (size_t) (s - segment);
                if ((n == 1 || n == 2) && strspn(segment, ".") >= n)
                        return true;
                if (!*s)
                        return false;
                if (escaped)
                        s += 2;
                segment = s + 1;
        }
}

static int normalise_path(char *path) {
        /* A backslash is no character of a path, and some software takes it for a slash. */
        if (*path != '/' || strchr(path, '\\') || decode(path, false, true) < 0 || path_has_dots(path))
                return -EBADMSG;
        return 0;
}

static bool port_is_valid(const char *port) {
        size_t n = strspn(port, "0123456789");

        return !port[n] && n <= 5 && (n == 0 || atoi(port) <= 65535);
}

bool http_authority_is_valid(const char *authority) {
        char address[INET6_ADDRSTRLEN];
        const char *end;

        if (*authority == '[') {
                struct in6_addr in6;
                size_t n = strcspn(++authority, "]");
                end = authority + n;
                if (*end != ']' || n >= sizeof(address))
                        return false;
                memcpy(address, authority, n);
                address[n] = '\0';
                if (inet_pton(AF_INET6, address, &in6) != 1)
                        return false;
                end++;
        } else {
                end = authority;
                /* reg-name of RFC 3986, without the comma, which joins two lines of a header. */
                while (*end && (isalnum((unsigned char) *end) || strchr("-._~!$&'()*+;=%", *end)))
                        if (*end++ == '%' && unescape(end - 1) < 0)
                                return false;
                if (end == authority)
                        return false;
        }
        return !*end || (*end == ':' && port_is_valid(end + 1));
}

/* "http://authority/path". The path may be empty, which is "/"; the room for that comes from the scheme. */
static int parse_absolute(char *target, const char *verb, HttpTarget *parts) {
        size_t scheme = strncasecmp(target, "http://", 7) == 0    ? 7
                        : strncasecmp(target, "https://", 8) == 0 ? 8
                                                                  : 0;
        size_t n = strcspn(target + scheme, "/");
        char *path = target + scheme + n;

        if (scheme == 0)
                return -EBADMSG;
        memmove(target, target + scheme, n);
        target[n] = '\0';
        parts->authority = target;
        if (!*path) { /* RFC 9112 section 3.2.4 */
                path = target + n + 1;
                strcpy(path, streq(verb, "OPTIONS") && !parts->query ? "*" : "/");
                parts->path = path;
                return http_authority_is_valid(parts->authority) ? 0 : -EBADMSG;
        }
        parts->path = path;
        return http_authority_is_valid(parts->authority) ? normalise_path(path) : -EBADMSG;
}

int http_target_parse(char *target, const char *verb, HttpTarget *ret) {
        HttpTarget parts = {.path = target, .query = strchr(target, '?')};

        for (const char *s = target; *s; s++)
                if ((unsigned char) *s <= 0x20 || (unsigned char) *s >= 0x7f || *s == '#')
                        return -EBADMSG;
        if (parts.query)
                *parts.query++ = '\0';

        int r = 0;
        if (streq(target, "*"))
                r = streq(verb, "OPTIONS") && !parts.query ? 0 : -EBADMSG;
        else if (*target == '/')
                r = normalise_path(target);
        else
                r = parse_absolute(target, verb, &parts);
        if (r >= 0)
                *ret = parts;
        return r;
}
