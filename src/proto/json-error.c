/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/json-error.h"

#include <stdarg.h>
#include <stdio.h>

#include "schema-tables.h"
#include "util/string-util.h"

/* A longer key of a map, or one with other characters, is not repeated to whoever reads the detail. */
#define MAX_KEY_SHOWN 32U

/* Text that is cut off when it does not fit. */
typedef struct Text {
        char *out;
        size_t size, used;
} Text;

static void append(Text *text, const char *format, ...) _printf_(2, 3);

static void append(Text *text, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        int n = vsnprintf(text->out + text->used, text->size - text->used, format, ap);
        va_end(ap);
        text->used = MIN(text->used + (size_t) MAX(n, 0), text->size - 1);
}

static void append_path(Text *text, const JsonPath *path) {
        if (!path)
                return;
        append_path(text, path->parent);
        switch (path->kind) {
        case JSON_STEP_FIELD:
                append(text, "%s%s", path->parent ? "." : "", path->name);
                break;
        case JSON_STEP_INDEX:
                append(text, "[%zu]", path->index);
                break;
        case JSON_STEP_KEY: {
                size_t size = strlen(path->name);
                bool shown = size <= MAX_KEY_SHOWN && identifier_is_valid(path->name, size);

                append(text, "[%s]", shown ? path->name : "…");
                break;
        }
        }
}

int json_fail(JsonError *error, const JsonPath *path, const char *format, ...) {
        Text text = {error->detail, sizeof(error->detail), 0};
        char reason[sizeof(error->detail)];
        va_list ap;

        va_start(ap, format);
        vsnprintf(reason, sizeof(reason), format, ap);
        va_end(ap);
        error->code = ERROR_INVALID_ARGUMENT;
        append_path(&text, path);
        append(&text, "%s%s", path ? ": " : "", reason);
        return -EINVAL;
}
