/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/schema.h"

#include "schema-tables.h"
#include "util/string-util.h"

static const char *const roles[_ROLE_MAX] = {
        [ROLE_API] = "api",
        [ROLE_SOCKET] = "socket",
        [ROLE_GROUP] = "group",
        [ROLE_ARBITER] = "arbiter",
        [ROLE_JOB] = "job",
        [ROLE_CTL] = "ctl",
};

const char *role_to_string(Role role) {
        return (unsigned) role < _ROLE_MAX ? roles[role] : NULL;
}

Role role_from_string(const char *name) {
        for (unsigned i = 0; i < _ROLE_MAX; i++)
                if (roles[i] && streq(roles[i], name))
                        return (Role) i;
        return ROLE_NONE;
}

static int compare_name(const void *name, const void *method) {
        return strcmp(name, (*(const MethodInfo *const *) method)->name);
}

const MethodInfo *schema_find_method(const char *name) {
        const MethodInfo *const *found =
                bsearch(name, schema_methods, schema_n_methods, sizeof(*schema_methods), compare_name);

        return found ? *found : NULL;
}

const ErrorInfo *schema_error(Sc__ErrorCode code) {
        /* The enum may hold any number that came over the wire. */
        unsigned index = (unsigned) code;

        return &schema_errors[index > 0 && index < schema_n_errors ? index : ERROR_INTERNAL];
}

bool field_is_set(const ProtobufCFieldDescriptor *field, const ProtobufCMessage *message) {
        const void *member = (const uint8_t *) message + field->offset;
        const void *quantifier = (const uint8_t *) message + field->quantifier_offset;

        if (field->label == PROTOBUF_C_LABEL_REPEATED)
                return *(const size_t *) quantifier > 0;
        if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
                return *(const uint32_t *) quantifier == field->id;
        switch (field->type) {
        case PROTOBUF_C_TYPE_STRING:
                return !isempty(*(const char *const *) member);
        case PROTOBUF_C_TYPE_BYTES:
                return ((const ProtobufCBinaryData *) member)->len > 0;
        case PROTOBUF_C_TYPE_MESSAGE:
                return *(ProtobufCMessage *const *) member;
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                return *(const uint64_t *) member != 0;
        default: /* 32 bits: numbers, booleans, enums */
                return *(const uint32_t *) member != 0;
        }
}

size_t field_element_size(const ProtobufCFieldDescriptor *field) {
        switch (field->type) {
        case PROTOBUF_C_TYPE_STRING:
        case PROTOBUF_C_TYPE_MESSAGE:
                return sizeof(void *);
        case PROTOBUF_C_TYPE_BYTES:
                return sizeof(ProtobufCBinaryData);
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                return sizeof(uint64_t);
        default:
                return sizeof(uint32_t);
        }
}
