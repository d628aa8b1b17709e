/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "schema-tables.h"
#include "util/string-util.h"

static void test_find_method(void **state) {
        for (size_t i = 0; i < schema_n_methods; i++) {
                assert_ptr_equal(schema_find_method(schema_methods[i]->name), schema_methods[i]);
                if (i > 0)
                        assert_true(strcmp(schema_methods[i - 1]->name, schema_methods[i]->name) < 0);
        }
        assert_ptr_equal(schema_find_method("message.send"), &method_message_send);
        assert_null(schema_find_method(""));
        assert_null(schema_find_method("message.sen"));
        assert_null(schema_find_method("message.send "));
        assert_null(schema_find_method("zzz"));
}

static void test_method(void **state) {
        const MethodInfo *send = &method_message_send;

        assert_int_equal(send->role, ROLE_GROUP);
        assert_int_equal(send->access, ACCESS_USER);
        assert_string_equal(send->http_verb, "POST");
        assert_string_equal(send->http_path, "/v1/conversations/{conversation}/messages");
        assert_int_equal(send->http_status, 201);
        assert_true(send->idempotent);
        assert_int_equal(send->scope_kind, SCOPE_CONVERSATION);
        assert_string_equal(send->request->descriptor->fields[send->scope_field].name, "conversation");
        assert_ptr_equal(send->request, &sc__send_request__info);
        assert_ptr_equal(send->response, &sc__send_response__info);
        assert_int_equal(method_session_check.access, ACCESS_INTERNAL);
        assert_null(method_session_check.http_verb);
        assert_int_equal(method_user_me.scope_kind, SCOPE_ANY);
        assert_int_equal(method_user_me.scope_field, -1);
        assert_int_equal(method_conversation_open_direct.scope_kind, SCOPE_DIRECT);
        assert_int_equal(method_conversation_list.scope_kind, SCOPE_USER);
        assert_int_equal(method_inbox_join.scope_kind, SCOPE_USER_OF);
        assert_int_equal(sc__user__info.record->partition, PARTITION_USER);
        assert_int_equal(sc__member__info.record->partition, PARTITION_CONVERSATION);
        assert_int_equal(sc__intent__info.record->partition, PARTITION_NONE);
        assert_int_equal(method_user_me.http_status, 200);
}

/* The tables stand parallel to protobuf-c's: a field's info knows the same name and kind. */
static void test_fields_are_parallel(void **state) {
        for (size_t i = 0; i < schema_n_messages; i++) {
                const MessageInfo *info = schema_messages[i];

                for (unsigned j = 0; j < info->descriptor->n_fields; j++) {
                        const ProtobufCFieldDescriptor *field = &info->descriptor->fields[j];
                        const FieldInfo *field_info = &info->fields[j];
                        size_t size = strlen(field->name);

                        assert_int_equal(field_info->json_key_size, size + 4);
                        assert_memory_equal(field_info->json_key + 2, field->name, size);
                        assert_int_equal(
                                field->type == PROTOBUF_C_TYPE_MESSAGE, field_info->message != NULL);
                        assert_int_equal(
                                field->type == PROTOBUF_C_TYPE_ENUM, field_info->enumeration != NULL);
                        if (field_info->message)
                                assert_ptr_equal(field_info->message->descriptor, field->descriptor);
                        if (field_info->enumeration)
                                assert_ptr_equal(field_info->enumeration->descriptor, field->descriptor);
                }
        }
}

static void test_rules(void **state) {
        const FieldInfo *fields = sc__register_request__info.fields;

        assert_true(fields[0].required && fields[0].identifier && !fields[0].secret);
        assert_int_equal(fields[0].min_size, 2);
        assert_int_equal(fields[0].max_size, 32);
        assert_true(fields[1].secret);
        assert_int_equal(sc__history_request__info.fields[3].max, 1000);
        assert_int_equal(sc__history_request__info.fields[3].default_value, 50);
}

static void test_record(void **state) {
        const RecordInfo *record = sc__message__info.record;
        const ProtobufCFieldDescriptor *fields = sc__message__descriptor.fields;

        assert_non_null(record);
        assert_string_equal(record->table, "messages");
        assert_null(record->key.name);
        assert_int_equal(record->key.n_fields, 2);
        assert_string_equal(fields[record->key.fields[0]].name, "conversation");
        assert_string_equal(fields[record->key.fields[1]].name, "seq");
        assert_int_equal(record->version_field, -1);
        assert_int_equal(record->n_indexes, 1);
        assert_true(record->indexes[0].unique);
        assert_string_equal(fields[record->indexes[0].fields[0]].name, "client_msg_id");
        assert_string_equal(
                sc__user__descriptor.fields[sc__user__info.record->version_field].name, "version");
        assert_null(sc__send_request__info.record);
}

static void test_errors(void **state) {
        assert_string_equal(schema_error(ERROR_NOT_A_MEMBER)->name, "not_a_member");
        assert_int_equal(schema_error(ERROR_NOT_A_MEMBER)->http, 403);
        assert_true(schema_error(ERROR_OVERLOADED)->temporary);
        for (size_t i = 1; i < schema_n_errors; i++) {
                assert_in_range(schema_errors[i].http, 400, 599);
                assert_false(isempty(schema_errors[i].title));
        }
        /* numbers that no error has */
        assert_string_equal(schema_error(ERROR_NONE)->name, "internal");
        assert_string_equal(schema_error((Sc__ErrorCode) schema_n_errors)->name, "internal");
        assert_string_equal(schema_error((Sc__ErrorCode) -1)->name, "internal");
}

static void test_openapi_is_embedded(void **state) {
        assert_int_equal(strlen(schema_openapi), schema_openapi_size);
        assert_non_null(startswith(schema_openapi, "{\"openapi\":\"3.1."));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_find_method),
                cmocka_unit_test(test_method),
                cmocka_unit_test(test_fields_are_parallel),
                cmocka_unit_test(test_rules),
                cmocka_unit_test(test_record),
                cmocka_unit_test(test_errors),
                cmocka_unit_test(test_openapi_is_embedded),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
