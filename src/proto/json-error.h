/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How reading and checking name the field that is at fault. Details never hold a value: it may be secret. */

#include "proto/json.h"

typedef enum JsonStepKind {
        JSON_STEP_FIELD, /* .name */
        JSON_STEP_INDEX, /* [3] */
        JSON_STEP_KEY, /* [name], of a map */
} JsonStepKind;

/* The way to a value, from the inside out: links on the stack of whoever descends. NULL: the whole. */
typedef struct JsonPath {
        const struct JsonPath *parent;
        JsonStepKind kind;
        const char *name;
        size_t index;
} JsonPath;

/* Sets ERROR_INVALID_ARGUMENT and "members[3].user: …"; answers -EINVAL. */
int json_fail(JsonError *error, const JsonPath *path, const char *format, ...) _printf_(3, 4);
