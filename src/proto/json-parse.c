/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "proto/json.h"
#include "schema-tables.h"

/* When memory is out the parser may drop a character, or refuse a good text. So failures of its allocations
 * are noted. */
static _Thread_local bool allocation_failed;

static void *allocate(size_t size) {
        void *p = malloc(size);

        if (!p)
                allocation_failed = true;
        return p;
}

__attribute__((constructor)) static void watch_allocations(void) {
        json_set_alloc_funcs(allocate, free);
}

/* Where a text nests deeper than allowed, or -1. Looked for before parsing, as the parser recurses. Only
 * brackets outside of strings count; whether all else is right the parser says. */
static ssize_t find_too_deep(const char *text, size_t size) {
        unsigned depth = 0;
        bool in_string = false;

        for (size_t i = 0; i < size; i++) {
                char c = text[i];

                if (in_string) {
                        if (c == '\\')
                                i++;
                        else if (c == '"')
                                in_string = false;
                } else if (c == '"')
                        in_string = true;
                else if (c == '[' || c == '{') {
                        if (++depth > JSON_MAX_DEPTH)
                                return (ssize_t) i;
                } else if ((c == ']' || c == '}') && depth > 0)
                        depth--;
        }
        return -1;
}

/* The parser's message quotes the text, which may hold a password. */
static const char *describe(enum json_error_code code) {
        switch (code) {
        case json_error_premature_end_of_input:
                return "the text ends too early";
        case json_error_end_of_input_expected:
                return "something follows the value";
        case json_error_invalid_utf8:
                return "not UTF-8";
        case json_error_null_byte_in_key:
        case json_error_null_character:
                return "a NUL character is not allowed";
        case json_error_duplicate_key:
                return "a name appears twice in one object";
        case json_error_numeric_overflow:
                return "a number is too large";
        default:
                return "not JSON";
        }
}

static int fail(JsonError *error, int line, int column, const char *what) {
        error->code = ERROR_INVALID_JSON;
        snprintf(error->detail, sizeof(error->detail), "line %d, column %d: %s", line, column, what);
        return -EBADMSG;
}

static int fail_at(JsonError *error, const char *text, size_t position, const char *what) {
        int line = 1, column = 1;

        for (size_t i = 0; i < position; i++, column++)
                if (text[i] == '\n') {
                        line++;
                        column = 0;
                }
        return fail(error, line, column, what);
}

int json_parse(const char *text, size_t size, json_t **ret, JsonError *error) {
        json_error_t e;

        if (size == 0)
                return fail(error, 1, 1, "the text is empty");
        const char *nul = memchr(text, 0, size); /* the parser ignores a NUL behind a value */
        if (nul)
                return fail_at(error, text, (size_t) (nul - text), "a NUL character is not allowed");
        ssize_t deep = find_too_deep(text, size);
        if (deep >= 0)
                return fail_at(error, text, (size_t) deep, "nested too deep");
        allocation_failed = false;
        _cleanup_json_ json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
        if (allocation_failed)
                return -ENOMEM;
        if (!value)
                return fail(error, e.line, e.column, describe(json_error_code(&e)));
        *ret = TAKE_PTR(value);
        return 0;
}
