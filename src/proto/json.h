/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* JSON <-> protobuf, driven by the descriptors; the only place where either becomes the other.
 *
 * The mapping: fields under their .proto names; 64-bit integers as JSON numbers (read from decimal strings
 * too); bytes as standard base64, or as embedded JSON where the field is raw_json; enums as their value
 * names without the type's prefix, in lower case ("direct"), read as numbers too; maps as objects; a oneof
 * as whichever of its members is set. A field with its default value is left out, save in a list or a oneof.
 * null reads as absent. Unknown members are ignored, as newer clients may send them.
 *
 * Reading checks every rule of the schema (required, sizes, ranges, identifiers, UTF-8) and names the
 * offending field. Depth is limited to JSON_MAX_DEPTH, memory by the arena. */

#include <jansson.h>

#include "proto/arena.h"
#include "proto/schema.h"
#include "util/bytes.h"

#define JSON_MAX_DEPTH 32

/* What was wrong, in words for the peer: "password: at least 8 bytes". */
typedef struct JsonError {
        Sc__ErrorCode code; /* ERROR_INVALID_JSON or ERROR_INVALID_ARGUMENT */
        char detail[160];
} JsonError;

/* Parses a text. -EBADMSG and error->detail with line and column if it is not JSON, or deeper than allowed,
 * or has a name twice in an object. */
int json_parse(const char *text, size_t size, json_t **ret, JsonError *error);

/* Reads an object into a new message in the arena. -EINVAL with error set, or -ENOMEM. `ret` may hold a
 * message already when fields come from elsewhere too (path and query of a URL): pass it in *message, else
 * NULL there. Rules are checked by json_check() afterwards, when all is in. */
int json_read_message(Arena *arena, const MessageInfo *info, const json_t *object,
        ProtobufCMessage **message, JsonError *error);

/* Sets one scalar field from text (a path or query parameter). -ENOENT: no such field. */
int json_read_parameter(Arena *arena, const MessageInfo *info, ProtobufCMessage *message, const char *name,
        const char *value, JsonError *error);

/* Checks the rules of the whole message, whatever surface it came in by. -EINVAL with error set. */
int message_check(const MessageInfo *info, const ProtobufCMessage *message, JsonError *error);

/* Appends the JSON text of a message, compact. Errors stick in the buffer. */
int json_write_message(Buffer *out, const MessageInfo *info, const ProtobufCMessage *message);

/* Appends a JSON string literal, quotes included. */
int json_write_string(Buffer *out, const char *s, size_t size);
