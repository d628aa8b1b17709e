/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "schema-tables.h"
#include "socket/codec.h"
#include "util/string-util.h"

static int read_all(CodecKind kind, const char *data, size_t size, char *out, size_t out_size) {
        CodecReader reader = {kind, data, size};
        int r;

        out[0] = 0;
        do {
                _cleanup_arena_ Arena arena;
                _cleanup_json_ json_t *parsed = NULL;
                Client__Command *command;
                JsonError error;
                uint32_t id;
                size_t used = strlen(out);

                arena_init(&arena, COMMAND_ARENA_LIMIT);
                r = codec_read(&reader, &arena, &command, &parsed, &id, &error);
                if (r == 1) {
                        assert_int_equal(id, command->id);
                        snprintf(out + used, out_size - used, "%u:%d ", command->id,
                                (int) command->method_case);
                } else if (r == -EINVAL)
                        snprintf(out + used, out_size - used, "%u!%d ", id, (int) error.code);
        } while (r == 1 || r == -EINVAL);
        return r;
}

static void assert_json(const char *json, int result, const char *expected) {
        _cleanup_free_ char *text = strdup(json);
        char out[256];

        for (char *p = text; *p; p++)
                if (*p == '\'')
                        *p = '"';
        assert_int_equal(read_all(CODEC_JSON, text, strlen(text), out, sizeof(out)), result);
        assert_string_equal(out, expected);
}

static void test_json_frames(void **state) {
        assert_json("", 0, "");
        assert_json("\n \n", 0, "");
        assert_json("{}", 0, "0:0 ");
        assert_json("{'id':1,'connect':{}}", 0, "1:4 ");
        assert_json("{'id':1,'ping':{}}\n{'id':2,'rpc':{'method':'user.me'}}\r\n{}\n", 0, "1:11 2:13 0:0 ");
        assert_json("{'id':9,'from_the_future':{}}", 0, "9:0 ");
}

/* Refused by its id, and what follows is read. */
static void test_one_line_that_is_not_json(void **state) {
        assert_json("{'id':7,'publish':{'channel':'c','data':{'text':'\\u0000'}}}\n{'id':8,'ping':{}}", 0,
                "7!6 8:11 ");
        assert_json("{'id':7,'publish':{'channel':'c','data':{'text':'\\ud83d'}}}", 0, "7!6 ");
        assert_json("{'publish':{'channel':'c','data':{'text':'\\u0000'}},'id':7}\n{'id':8,'ping':{}}", 0,
                "7!6 8:11 ");
        assert_json("{'id': 7, 'publish': {'channel': 'c', 'data': {'text': '\\u0000'}}}", 0, "7!6 ");
        assert_json("{'publish': {'channel': 'c', 'data': {'text': '\\u0000'}}, 'id': 7}", 0, "7!6 ");
        assert_json("{'id':1,'id':2,'ping':{}}", 0, "1!6 ");
        assert_json("{'ping':{},'id':1,'id':2}", 0, "2!6 ");
        assert_json("{'id':4294967295,", 0, "4294967295!6 ");
        assert_json("{'id':4294967296,", -EBADMSG, "");
        assert_json("{'id':0,", -EBADMSG, "");
        assert_json("{'id':17", -EBADMSG, "");
        assert_json("{'text':'\\u0000','uid':17}", -EBADMSG, "");
        assert_json("{'text':'\\u0000','id':}", -EBADMSG, "");
        assert_json("{'id':}", -EBADMSG, "");
        assert_json("{12345678901234}", -EBADMSG, "");
}

static void test_json_that_is_not_the_protocol(void **state) {
        assert_json("nonsense", -EBADMSG, "");
        assert_json("[]", -EBADMSG, "");
        assert_json("17", -EBADMSG, "");
        assert_json("{'id':1,'ping':{}}\n{'id':", -EBADMSG, "1:11 ");
        assert_json("{'id':1,'id':2", 0, "1!6 ");
        assert_json("{'connect':7}", -EBADMSG, "");
        assert_json("{'id':-3,'connect':7}", -EBADMSG, "");
}

static void test_json_commands_to_refuse(void **state) {
        char expected[32];

        snprintf(expected, sizeof(expected), "5!%d 6:11 ", ERROR_INVALID_ARGUMENT);
        assert_json("{'id':5,'publish':{'data':{}}}\n{'id':6,'ping':{}}", 0, expected);
        assert_json("{'id':5,'publish':7}\n{'id':6,'ping':{}}", 0, expected);
        assert_json("{'id':5,'publish':{'channel':'a b','data':{}}}\n{'id':6,'ping':{}}", 0, expected);
        assert_json("{'id':5,'rpc':{}}\n{'id':6,'ping':{}}", 0, expected);
}

/* What the data of a command is: handed over as parsed, in the command itself, or nowhere. */
static void assert_data(const char *text, const char *expected_parsed, const char *expected_text) {
        CodecReader reader = {.kind = CODEC_JSON, .data = text, .size = strlen(text)};
        _cleanup_arena_ Arena arena;
        _cleanup_json_ json_t *data = NULL;
        _cleanup_free_ char *parsed = NULL;
        Client__Command *command;
        JsonError error;
        uint32_t id;

        arena_init(&arena, COMMAND_ARENA_LIMIT);
        assert_int_equal(codec_read(&reader, &arena, &command, &data, &id, &error), 1);
        parsed = data ? json_dumps(data, JSON_COMPACT) : strdup("none");
        assert_string_equal(parsed, expected_parsed);
        ProtobufCBinaryData left = command->method_case == CLIENT__COMMAND__METHOD_RPC
                                           ? command->rpc->data
                                           : command->publish->data;
        assert_int_equal(left.len, strlen(expected_text));
        assert_memory_equal(left.data ?: (const uint8_t *) "", expected_text, left.len);
}

static void test_json_data(void **state) {
        _cleanup_free_ char *large = malloc((1U << 20) + 100);

        assert_data("{\"id\":1,\"rpc\":{\"method\":\"m\",\"data\":{\"a\":[1]}}}", "{\"a\":[1]}", "{}");
        assert_data("{\"id\":1,\"publish\":{\"channel\":\"c\",\"data\":{\"b\":2}}}", "{\"b\":2}", "{}");
        assert_data("{\"id\":1,\"rpc\":{\"method\":\"m\",\"data\":[1]}}", "none", "[1]");
        assert_data("{\"id\":1,\"rpc\":{\"method\":\"m\",\"data\":null}}", "none", "");
        assert_data("{\"id\":1,\"rpc\":{\"method\":\"m\"}}", "none", "");

        /* A line that may hold more than the rules allow is left to them. */
        memset(large, ' ', 1U << 20);
        strcpy(large + (1U << 20), "{\"id\":1,\"rpc\":{\"method\":\"m\",\"data\":{\"a\":1}}}");
        assert_data(large, "none", "{\"a\":1}");
}

static void assert_protobuf(const char *data, size_t size, int result, const char *expected) {
        char out[256];

        assert_int_equal(read_all(CODEC_PROTOBUF, data, size, out, sizeof(out)), result);
        assert_string_equal(out, expected);
}

static void test_protobuf_frames(void **state) {
        /* length, id = 1, ping = {}; then a pong, which is empty; then connect */
        assert_protobuf("\x04\x08\x01\x5a\x00\x00\x04\x08\x02\x22\x00", 11, 0, "1:11 0:0 2:4 ");
        assert_protobuf("", 0, 0, "");
        assert_protobuf("\x05\x08\x01\x5a\x00", 5, -EBADMSG, ""); /* cut off */
        assert_protobuf("\xff\xff\xff\xff\xff\xff", 6, -EBADMSG, ""); /* endless length */
        assert_protobuf("\xff\xff\xff\xff\x1f", 5, -EBADMSG, ""); /* more than 32 bits */
        assert_protobuf("\x80", 1, -EBADMSG, ""); /* half a length */
        assert_protobuf("\x02\x08\xff", 3, -EBADMSG, ""); /* half a number */
        assert_protobuf("\x04\x08\x01\x3a\x00\x02\x08\x02", 8, 0, "1!7 2:0 "); /* publish without channel */
}

static void fill_push(Client__Reply *reply, Client__Push *push, Client__Publication *pub) {
        client__reply__init(reply);
        client__push__init(push);
        client__publication__init(pub);
        pub->data.data = (uint8_t *) "{\"a\":1}";
        pub->data.len = 7;
        pub->offset = 3;
        push->channel = (char *) "c";
        push->what_case = CLIENT__PUSH__WHAT_PUB;
        push->pub = pub;
        reply->result_case = CLIENT__REPLY__RESULT_PUSH;
        reply->push = push;
}

static void test_replies_in_json(void **state) {
        Client__Reply reply = CLIENT__REPLY__INIT;
        Client__PublishResult result = CLIENT__PUBLISH_RESULT__INIT;
        Client__Push push;
        Client__Publication pub;
        _cleanup_buffer_ Buffer out = {};

        assert_int_equal(codec_append(&out, CODEC_JSON, &reply), 0); /* a ping */
        reply.id = 4;
        reply.result_case = CLIENT__REPLY__RESULT_PUBLISH;
        reply.publish = &result;
        assert_int_equal(codec_append(&out, CODEC_JSON, &reply), 0);
        fill_push(&reply, &push, &pub);
        assert_int_equal(codec_append(&out, CODEC_JSON, &reply), 0);
        buffer_append(&out, "", 1);
        assert_string_equal((char *) out.data,
                "{}\n{\"id\":4,\"publish\":{}}\n"
                "{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":{\"a\":1},\"offset\":3}}}");
}

static void test_replies_in_protobuf(void **state) {
        Client__Reply ping = CLIENT__REPLY__INIT, reply;
        Client__Push push;
        Client__Publication pub;
        _cleanup_buffer_ Buffer out = {};

        fill_push(&reply, &push, &pub);
        assert_int_equal(codec_append(&out, CODEC_PROTOBUF, &ping), 0);
        assert_int_equal(codec_append(&out, CODEC_PROTOBUF, &reply), 0);
        assert_int_equal(out.data[0], 0);
        assert_int_equal(out.data[1], out.size - 2);
        Client__Reply *back = client__reply__unpack(NULL, out.size - 2, out.data + 2);
        assert_non_null(back);
        assert_string_equal(back->push->channel, "c");
        assert_int_equal(back->push->pub->offset, 3);
        client__reply__free_unpacked(back, NULL);
}

static void test_long_protobuf_reply(void **state) {
        Client__Reply reply = CLIENT__REPLY__INIT;
        Client__Error error = CLIENT__ERROR__INIT;
        _cleanup_free_ char *text = malloc(301);

        memset(text, 'x', 300);
        text[300] = 0;
        error.message = text;
        reply.error = &error;
        _cleanup_(bytes_unrefp) Bytes *bytes = codec_encode(CODEC_PROTOBUF, &reply);
        assert_non_null(bytes);
        size_t size = client__reply__get_packed_size(&reply);
        assert_int_equal(bytes->size, size + 2);
        assert_int_equal(bytes->data[0], (size & 0x7f) | 0x80);
        assert_int_equal(bytes->data[1], size >> 7);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_json_frames),
                cmocka_unit_test(test_one_line_that_is_not_json),
                cmocka_unit_test(test_json_that_is_not_the_protocol),
                cmocka_unit_test(test_json_data),
                cmocka_unit_test(test_json_commands_to_refuse),
                cmocka_unit_test(test_protobuf_frames),
                cmocka_unit_test(test_replies_in_json),
                cmocka_unit_test(test_replies_in_protobuf),
                cmocka_unit_test(test_long_protobuf_reply),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
