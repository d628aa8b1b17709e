/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* JSON <-> protobuf, driven by the descriptors; the only place where either becomes the other.
 *
 * The mapping:
 * - Fields stand under their .proto names. One with its default value is left out, save in a list or a
 *   oneof; a submessage that is set is written even if it is empty.
 * - Integers are JSON numbers. They are read from decimal strings too, and from 3.0 and 1e3, which are
 *   integers (up to 2^53, beyond which reals skip some). A uint64 above 2^63 - 1 is written as a string, and
 *   read only as such.
 * - bytes are canonical base64 with padding, or where the field is raw_json any JSON value, embedded.
 * - Enums are their value names without the common prefix, in lower case ("direct"); read as numbers too.
 * - Maps are objects, a oneof is whichever of its members is set; two of them are refused.
 * - null reads as absent, except in a list or map, where it is refused. Unknown members are ignored, as
 *   newer clients may send them.
 * - A private field is not written, and unknown when read.
 * - What is written is one line, whatever raw_json fields hold.
 *
 * Reading checks types and ranges, message_check() the rules of the schema; both name the offending field,
 * and never a value. Depth is limited to JSON_MAX_DEPTH, memory by the arena. */

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

/* Parses a text, any JSON value. -EBADMSG and error->detail with line and column if it is not JSON, or
 * deeper than allowed, or has a name twice in an object; -ENOMEM. The caller calls json_decref(). */
int json_parse(const char *text, size_t size, json_t **ret, JsonError *error);

/* Is it one JSON value, as json_parse() takes it? Builds nothing, so it is cheap; names that appear twice
 * and numbers out of range pass. */
bool json_is_valid(const void *text, size_t size);

static inline void json_decrefpp(json_t **json) {
        json_decref(*json);
}
#define _cleanup_json_ _cleanup_(json_decrefpp)

/* Reads an object into a message: a new one in the arena when *message is NULL, or one that holds fields
 * from elsewhere (path and query of a URL): then a field that was given there must not be given here with
 * another value. -EINVAL with error set, or -ENOMEM at the arena's limit; *message is set but incomplete
 * then. Rules are checked by message_check() afterwards, when all is in. */
int json_read_message(Arena *arena, const MessageInfo *info, const json_t *object,
        ProtobufCMessage **message, JsonError *error);

/* Sets one scalar field from text (a path or query parameter), once. -ENOENT: no such field, or not a
 * scalar; otherwise as json_read_message(). */
int json_read_parameter(Arena *arena, const MessageInfo *info, ProtobufCMessage *message, const char *name,
        const char *value, JsonError *error);

/* Checks the rules of the whole message, whatever surface it came in by, nested ones too: required, sizes,
 * ranges, known enum values, identifiers, UTF-8, raw_json. -EINVAL with error set, or -ENOMEM. (protobuf-c
 * ends a string that holds a NUL there: what follows is never seen.) */
int message_check(const MessageInfo *info, const ProtobufCMessage *message, JsonError *error);

/* Appends the JSON text of a message, compact, on one line. Errors stick in the buffer and are answered. */
int json_write_message(Buffer *out, const MessageInfo *info, const ProtobufCMessage *message);

/* Appends any JSON value, compact; integers and reals keep their values. */
int json_write_value(Buffer *out, const json_t *value);

/* Appends a JSON string literal, quotes included; bytes that are not UTF-8 become U+FFFD. */
int json_write_string(Buffer *out, const char *s, size_t size);
