/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The two framings of the client protocol, behind one interface: commands out of a WebSocket message,
 * replies into one.
 *
 * JSON (text messages): one object a line. Protobuf (binary messages): each message behind its length as a
 * varint. Which one a client speaks shows in its first message. Pure functions, fuzzed. */

#include "proto/json.h"
#include "stonechat/client/v1/client.pb-c.h"

typedef enum CodecKind {
        CODEC_JSON,
        CODEC_PROTOBUF,
} CodecKind;
#define N_CODECS 2

/* The commands of one message; zero-initialise, then set kind, data and size. */
typedef struct CodecReader {
        CodecKind kind;
        const char *data;
        size_t size;
} CodecReader;

/* Memory that one command may take when unpacked; the largest is a connect with thousands of positions. */
#define COMMAND_ARENA_LIMIT (4U << 20)

/* The next command, into the arena: 1, or 0 at the end. -EBADMSG: this is not the protocol, the connection
 * must end. -EINVAL: a command whose fields are wrong, to be refused with `error` under the id in *ret_id
 * (never 0 then).
 *
 * *ret_data is the data of an rpc or publish command in JSON, if it is an object; in the command stands {}
 * instead then, so that what is parsed already is not written and parsed once more. Otherwise NULL. The
 * caller calls json_decref(). */
int codec_read(CodecReader *reader, Arena *arena, Client__Command **ret, json_t **ret_data, uint32_t *ret_id,
        JsonError *error);

/* Appends one reply; several make one message. Errors stick in the buffer. */
int codec_append(Buffer *out, CodecKind kind, const Client__Reply *reply);

/* One reply as a whole message; NULL when out of memory. */
Bytes *codec_encode(CodecKind kind, const Client__Reply *reply);
