/* SPDX-License-Identifier: Apache-2.0 */
#include "util/string-util.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "util/time-util.h"

char *format_string(const char *format, ...) {
        char *s = NULL;
        va_list ap;

        va_start(ap, format);
        int r = vasprintf(&s, format, ap);
        va_end(ap);
        return r < 0 ? NULL : s;
}

size_t utf8_sequence(const uint8_t *s, size_t size) {
        uint8_t c = s[0], low = 0x80, high = 0xbf;
        size_t n;

        if (c < 0x80)
                return c != 0;
        if (c >= 0xc2 && c <= 0xdf)
                n = 2;
        else if (c >= 0xe0 && c <= 0xef) {
                n = 3;
                if (c == 0xe0)
                        low = 0xa0;
                if (c == 0xed)
                        high = 0x9f;
        } else if (c >= 0xf0 && c <= 0xf4) {
                n = 4;
                if (c == 0xf0)
                        low = 0x90;
                if (c == 0xf4)
                        high = 0x8f;
        } else
                return 0;
        if (size < n || s[1] < low || s[1] > high)
                return 0;
        for (size_t i = 2; i < n; i++)
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
        return n;
}

/* Eight characters of ASCII, none of them NUL? */
static bool is_ascii_word(const uint8_t *p) {
        uint64_t word;

        memcpy(&word, p, sizeof(word));
        /* Without a high bit in the word, one in the difference is a byte that was 0. */
        return ((word | (word - 0x0101010101010101U)) & 0x8080808080808080U) == 0;
}

bool utf8_is_valid(const char *s, size_t size) {
        const uint8_t *p = (const uint8_t *) s, *end = p + size;

        while (p < end) {
                if (end - p >= 8 && is_ascii_word(p)) {
                        p += 8;
                        continue;
                }
                size_t n = utf8_sequence(p, end - p);
                if (n == 0)
                        return false;
                p += n;
        }
        return true;
}

bool identifier_is_valid(const char *s, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (!isalnum((unsigned char) s[i]) && (s[i] == 0 || !strchr("-_.:#@", s[i])))
                        return false;
        return true;
}

/* Reads digits at *s and moves *s behind them. */
static int take_digits(const char **s, uint64_t *ret) {
        const char *p = *s;
        uint64_t value = 0;

        if (!isdigit((unsigned char) *p))
                return -EINVAL;
        for (; isdigit((unsigned char) *p); p++)
                if (__builtin_mul_overflow(value, 10, &value) ||
                        __builtin_add_overflow(value, (uint64_t) (*p - '0'), &value))
                        return -ERANGE;
        *s = p;
        *ret = value;
        return 0;
}

int parse_u64(const char *s, uint64_t max, uint64_t *ret) {
        uint64_t value;
        int r = take_digits(&s, &value);

        if (r < 0)
                return r;
        if (*s)
                return -EINVAL;
        if (value > max)
                return -ERANGE;
        *ret = value;
        return 0;
}

struct unit {
        const char *name;
        uint64_t factor;
};

/* Sums up "NUMBER [UNIT]" terms; a term without a unit counts `bare`. */
static int parse_terms(
        const char *s, const struct unit *units, size_t n_units, uint64_t bare, uint64_t *ret) {
        uint64_t sum = 0;

        do {
                uint64_t value, factor = bare;
                int r = take_digits(&s, &value);
                if (r < 0)
                        return r;
                s += strspn(s, " ");
                size_t length = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
                if (length > 0) {
                        factor = 0;
                        for (size_t i = 0; i < n_units && factor == 0; i++)
                                if (strlen(units[i].name) == length &&
                                        strncmp(s, units[i].name, length) == 0)
                                        factor = units[i].factor;
                        if (factor == 0)
                                return -EINVAL;
                        s += length;
                }
                if (__builtin_mul_overflow(value, factor, &value) ||
                        __builtin_add_overflow(sum, value, &sum))
                        return -ERANGE;
                s += strspn(s, " ");
        } while (*s);
        *ret = sum;
        return 0;
}

int parse_duration(const char *s, uint64_t *ret_usec) {
        static const struct unit units[] = {
                {"us", 1},
                {"ms", USEC_PER_MSEC},
                {"s", USEC_PER_SEC},
                {"sec", USEC_PER_SEC},
                {"min", 60 * USEC_PER_SEC},
                {"m", 60 * USEC_PER_SEC},
                {"h", 3600 * USEC_PER_SEC},
                {"d", 86400 * USEC_PER_SEC},
        };
        return parse_terms(s, units, ELEMENTSOF(units), USEC_PER_SEC, ret_usec);
}

int parse_size(const char *s, uint64_t *ret) {
        static const struct unit units[] = {
                {"B", 1},
                {"K", 1ULL << 10},
                {"M", 1ULL << 20},
                {"G", 1ULL << 30},
        };
        return parse_terms(s, units, ELEMENTSOF(units), 1, ret);
}

int parse_boolean(const char *s) {
        static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {
                                                                             "no", "false", "off", "0"};

        for (size_t i = 0; i < ELEMENTSOF(yes); i++) {
                if (strcasecmp(s, yes[i]) == 0)
                        return 1;
                if (strcasecmp(s, no[i]) == 0)
                        return 0;
        }
        return -EINVAL;
}

void hex_encode(const uint8_t *bytes, size_t n, char *out) {
        static const char digits[] = "0123456789abcdef";

        for (size_t i = 0; i < n; i++) {
                *out++ = digits[bytes[i] >> 4];
                *out++ = digits[bytes[i] & 15];
        }
        *out = 0;
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return -EINVAL;
}

int hex_decode(const char *hex, uint8_t *out, size_t n) {
        if (strlen(hex) != 2 * n)
                return -EINVAL;
        for (size_t i = 0; i < n; i++) {
                int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
                if (high < 0 || low < 0)
                        return -EINVAL;
                out[i] = (uint8_t) (high << 4 | low);
        }
        return 0;
}
