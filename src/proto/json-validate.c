/* SPDX-License-Identifier: Apache-2.0 */

/* Is a text JSON? Without building anything: for values that are only passed on. */

#include <ctype.h>

#include "proto/json.h"
#include "util/string-util.h"

typedef struct Scanner {
        const uint8_t *p, *end;
        unsigned depth;
        uint64_t objects; /* a bit for each open bracket, the innermost the lowest: is it an object? */
} Scanner;

static void skip_space(Scanner *s) {
        while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
                s->p++;
}

static bool take(Scanner *s, uint8_t c) {
        if (s->p >= s->end || *s->p != c)
                return false;
        s->p++;
        return true;
}

static bool take_word(Scanner *s, const char *word) {
        size_t size = strlen(word);

        if ((size_t) (s->end - s->p) < size || memcmp(s->p, word, size) != 0)
                return false;
        s->p += size;
        return true;
}

static bool take_digits(Scanner *s) {
        const uint8_t *start = s->p;

        while (s->p < s->end && isdigit(*s->p))
                s->p++;
        return s->p > start;
}

static bool take_number(Scanner *s) {
        take(s, '-');
        if (!take(s, '0') && !take_digits(s))
                return false;
        if (take(s, '.') && !take_digits(s))
                return false;
        if (!take(s, 'e') && !take(s, 'E'))
                return true;
        if (!take(s, '+'))
                take(s, '-');
        return take_digits(s);
}

/* The four digits of a \u escape; -1 if they are not there. */
static int take_hex4(Scanner *s) {
        int value = 0;

        if (s->end - s->p < 4)
                return -1;
        for (unsigned i = 0; i < 4; i++, s->p++) {
                if (!isxdigit(*s->p))
                        return -1;
                value = value << 4 | (isdigit(*s->p) ? *s->p - '0' : (*s->p | 0x20) - 'a' + 10);
        }
        return value;
}

/* What follows a backslash. NUL and halves of surrogate pairs are no characters. */
static bool take_escape(Scanner *s) {
        if (s->p >= s->end)
                return false;
        if (*s->p != 'u')
                return *s->p && strchr("\"\\/bfnrt", *s->p++);
        s->p++;
        int first = take_hex4(s);
        if (first <= 0 || (first >= 0xdc00 && first <= 0xdfff))
                return false;
        if (first < 0xd800 || first > 0xdbff)
                return true;
        int second = take_word(s, "\\u") ? take_hex4(s) : -1;
        return second >= 0xdc00 && second <= 0xdfff;
}

static bool take_string(Scanner *s) {
        if (!take(s, '"'))
                return false;
        while (s->p < s->end && *s->p != '"') {
                if (*s->p < 0x20)
                        return false;
                if (*s->p == '\\') {
                        s->p++;
                        if (!take_escape(s))
                                return false;
                        continue;
                }
                size_t n = *s->p < 0x80 ? 1 : utf8_sequence(s->p, s->end - s->p);
                if (n == 0)
                        return false;
                s->p += n;
        }
        return take(s, '"');
}

static bool take_scalar(Scanner *s) {
        if (s->p >= s->end)
                return false;
        switch (*s->p) {
        case '"':
                return take_string(s);
        case 't':
                return take_word(s, "true");
        case 'f':
                return take_word(s, "false");
        case 'n':
                return take_word(s, "null");
        default:
                return take_number(s);
        }
}

static bool take_name(Scanner *s) {
        skip_space(s);
        if (!take_string(s))
                return false;
        skip_space(s);
        return take(s, ':');
}

/* What comes next. */
typedef enum Next {
        NEXT_VALUE,
        NEXT_CLOSE, /* or a comma: a value has ended */
        NEXT_END,
        NEXT_INVALID,
} Next;

static Next begin_value(Scanner *s) {
        skip_space(s);
        bool object = take(s, '{');
        if (!object && !take(s, '['))
                return take_scalar(s) ? NEXT_CLOSE : NEXT_INVALID;
        if (++s->depth > JSON_MAX_DEPTH)
                return NEXT_INVALID;
        s->objects = s->objects << 1 | object;
        skip_space(s);
        if (s->p < s->end && *s->p == (object ? '}' : ']'))
                return NEXT_CLOSE;
        return !object || take_name(s) ? NEXT_VALUE : NEXT_INVALID;
}

static Next end_value(Scanner *s) {
        bool object = s->objects & 1;

        if (s->depth == 0)
                return NEXT_END;
        skip_space(s);
        /* A comma behind an opening bracket is no problem here: begin_value() comes back only with the
         * closing one in sight. */
        if (take(s, ','))
                return !object || take_name(s) ? NEXT_VALUE : NEXT_INVALID;
        if (!take(s, object ? '}' : ']'))
                return NEXT_INVALID;
        s->objects >>= 1;
        s->depth--;
        return NEXT_CLOSE;
}

bool json_is_valid(const void *text, size_t size) {
        Scanner s = {.p = text, .end = (const uint8_t *) text + size};
        Next next = NEXT_VALUE;

        static_assert(JSON_MAX_DEPTH < 64, "a bit for each level");
        while (next == NEXT_VALUE || next == NEXT_CLOSE)
                next = next == NEXT_VALUE ? begin_value(&s) : end_value(&s);
        skip_space(&s);
        return next == NEXT_END && s.p == s.end;
}
