/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Records as rows: each field of a record is one value, at the same index as in descriptor->fields. Back
 * ends turn values into what their engine binds and back; they never look into the structs.
 *
 * Integers, booleans and enums are VALUE_INTEGER (an uint64 keeps its bits, so only values up to 2^63 - 1
 * sort as one expects), strings VALUE_TEXT, bytes and nested messages (packed) VALUE_BLOB. The members of a
 * oneof are all VALUE_NULL but the one that is set; so are optional fields and nested messages that are
 * absent. Repeated fields cannot be stored but inside nested messages. */

#include "proto/arena.h"
#include "proto/schema.h"

typedef enum ValueType {
        VALUE_NULL,
        VALUE_INTEGER,
        VALUE_REAL,
        VALUE_TEXT, /* a NUL stands behind it, uncounted */
        VALUE_BLOB,
} ValueType;

typedef struct Value {
        ValueType type : 8;
        uint32_t size; /* bytes of text or blob */
        union {
                int64_t integer;
                double real;
                const char *text;
                const void *blob;
        };
} Value;

bool value_equal(const Value *a, const Value *b);

/* -EOPNOTSUPP if the message is no record, or has fields that cannot be stored, or its key does not begin
 * with a string, the partition. */
int record_check(const MessageInfo *info);

static inline size_t record_n_fields(const MessageInfo *info) {
        return info->descriptor->n_fields;
}

/* What a field is stored as, and whether it may be VALUE_NULL. */
ValueType record_field_type(const ProtobufCFieldDescriptor *field);
bool record_field_is_nullable(const ProtobufCFieldDescriptor *field);
/* The index of the field, or -ENOENT. */
int record_find_field(const MessageInfo *info, const char *name);

bool record_field_is_key(const MessageInfo *info, unsigned field);
/* What the first field of the key holds; NULL if that is no string. */
const char *record_partition(const MessageInfo *info, const ProtobufCMessage *record);
/* What its version field holds, which it must have. */
uint64_t record_version(const MessageInfo *info, const ProtobufCMessage *record);

/* True if rows whose first field is the empty string stand outside the index: several of them may exist, and
 * scans of the index do not find them. So for unique indexes that begin with a string. */
bool record_index_is_partial(const MessageInfo *info, const IndexInfo *index);

/* Memory that record_to_values() needs for the strings, bytes and nested messages of a record. */
size_t record_data_size(const MessageInfo *info, const ProtobufCMessage *record);
/* Fills n_fields values; the data is copied to *data, which moves behind it. */
void record_to_values(
        const MessageInfo *info, const ProtobufCMessage *record, Value *values, uint8_t **data);
/* The reverse, copied into the arena: -ENOMEM, or -EBADMSG if a nested message is malformed. */
int record_from_values(const MessageInfo *info, const Value *values, Arena *arena, ProtobufCMessage **ret);
