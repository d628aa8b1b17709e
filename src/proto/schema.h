/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the .proto files say beyond protobuf-c's descriptors: rules, records, methods, errors. The tables are
 * generated from proto/ by tools/generate-schema; this header is their shape.
 *
 * protobuf-c's message structs have the prefix Sc__ (package stonechat.v1) and Client__ (the Centrifuge
 * client protocol). */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "stonechat/v1/errors.pb-c.h"
#include "util/macro.h"

typedef struct MessageInfo MessageInfo;
typedef struct RecordInfo RecordInfo;

typedef struct EnumInfo {
        const ProtobufCEnumDescriptor *descriptor;
        const char *const *names; /* in JSON, parallel to descriptor->values */
} EnumInfo;

/* One field; stands at the same index as in descriptor->fields. */
typedef struct FieldInfo {
        bool required, secret, raw_json, identifier, make_id;
        bool private; /* stored, and never shown: JSON neither has nor takes it */
        bool map; /* message is the entry type, with fields key and value */
        uint32_t min_size, max_size; /* bytes or elements; max_size 0: no rule */
        uint64_t max; /* of a number; 0: no rule */
        uint64_t default_value;
        const MessageInfo *message; /* of a message field */
        const EnumInfo *enumeration; /* of an enum field */
        const char *json_key; /* ",\"name\":", as it stands before the value in an object */
        unsigned json_key_size;
} FieldInfo;

/* Fields of which at most one may have a value. */
typedef struct FieldGroup {
        bool required; /* and one must */
        unsigned n_fields;
        const unsigned *fields; /* indexes into descriptor->fields */
} FieldGroup;

struct MessageInfo {
        const ProtobufCMessageDescriptor *descriptor;
        const FieldInfo *fields;
        unsigned n_groups;
        const FieldGroup *groups;
        const RecordInfo *record; /* NULL: not stored by itself */
};

typedef struct IndexInfo {
        const char *name;
        bool unique;
        unsigned n_fields;
        const unsigned *fields; /* indexes into descriptor->fields */
} IndexInfo;

/* What a record's partition stands for, the first field of its key. */
typedef enum Partition {
        PARTITION_NONE,
        PARTITION_USER,
        PARTITION_CONVERSATION, /* or "#" and a user: the inbox */
} Partition;

struct RecordInfo {
        const char *table;
        IndexInfo key; /* name NULL */
        unsigned n_indexes;
        const IndexInfo *indexes;
        int version_field; /* index of the uint64 that compare-and-set checks, or -1 */
        Partition partition;
};

typedef enum Role {
        ROLE_NONE,
        ROLE_API,
        ROLE_SOCKET,
        ROLE_GROUP,
        ROLE_ARBITER,
        ROLE_JOB,
        ROLE_CTL, /* the administrator */
        _ROLE_MAX,
} Role;

/* "api", and back: NULL and ROLE_NONE for what is none. */
const char *role_to_string(Role role);
Role role_from_string(const char *name);

typedef enum Access {
        ACCESS_USER,
        ACCESS_PUBLIC,
        ACCESS_INTERNAL,
} Access;

/* Which instance of its role runs a method: the primary of a shard, except for SCOPE_ANY. */
typedef enum ScopeKind {
        SCOPE_ANY,
        SCOPE_CONVERSATION, /* of the conversation in scope_field */
        SCOPE_DIRECT, /* of the direct conversation of the caller and the user in scope_field */
        SCOPE_USER, /* of the caller */
        SCOPE_USER_OF, /* of the user in scope_field */
} ScopeKind;

typedef struct MethodInfo {
        const char *name; /* "message.send" */
        Role role;
        Access access;
        const char *http_verb; /* NULL: no REST route */
        const char *http_path; /* "/v1/conversations/{conversation}/messages" */
        unsigned http_status; /* of success */
        bool idempotent;
        bool hot; /* its handler takes a completion instead of running on a fiber */
        bool large; /* its answers may be large: few run at a time */
        unsigned callers; /* of an internal method: the roles that may call it, a bit 1 << Role each */
        unsigned cost; /* what a call is charged, at least 1 */
        ScopeKind scope_kind;
        int scope_field; /* index of a required string of the request, or -1 */
        const MessageInfo *request, *response;
} MethodInfo;

typedef struct ErrorInfo {
        const char *name; /* "not_a_member" */
        const char *title;
        unsigned http, client;
        bool temporary;
} ErrorInfo;

/* Does the field hold anything but its default? Of a oneof: is it the member that is set? */
bool field_is_set(const ProtobufCFieldDescriptor *field, const ProtobufCMessage *message);

/* Bytes of one element in the struct, or in the array of a repeated field. */
size_t field_element_size(const ProtobufCFieldDescriptor *field);

extern const MethodInfo *const schema_methods[]; /* sorted by name */
extern const size_t schema_n_methods;

extern const MessageInfo *const schema_messages[]; /* every one */
extern const size_t schema_n_messages;

extern const ErrorInfo schema_errors[]; /* by code */
extern const size_t schema_n_errors;

/* All message infos are global: sc__user__info for Sc__User, declared in the generated "schema-tables.h",
 * and so are the methods: method_message_send,
 * and short names for the error codes: ERROR_NOT_A_MEMBER. */

/* NULL if there is none of that name. */
const MethodInfo *schema_find_method(const char *name);

/* Never NULL: an unknown code reads as ERROR_INTERNAL. */
const ErrorInfo *schema_error(Sc__ErrorCode code);

/* The OpenAPI 3.1 description of the REST surface, JSON text. */
extern const char schema_openapi[];
extern const size_t schema_openapi_size;
