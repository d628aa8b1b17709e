/* SPDX-License-Identifier: Apache-2.0 */

/* The mapping by examples, and every refusal by its words. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/json.h"
#include "schema-tables.h"

typedef struct Fixture {
        Arena arena;
        JsonError error;
        ProtobufCMessage *message;
} Fixture;

static void fixture_done(Fixture *f) {
        arena_done(&f->arena);
}
#define _cleanup_fixture_ _cleanup_(fixture_done)

/* Parses, reads and checks, as a surface does. */
static int read_and_check(Fixture *f, const MessageInfo *info, const char *text) {
        _cleanup_json_ json_t *json = NULL;

        arena_done(&f->arena);
        arena_init(&f->arena, 1U << 20);
        f->message = NULL;
        f->error = (JsonError){};
        int r = json_parse(text, strlen(text), &json, &f->error);
        if (r < 0)
                return r;
        r = json_read_message(&f->arena, info, json, &f->message, &f->error);
        return r < 0 ? r : message_check(info, f->message, &f->error);
}

static void reads_as(const MessageInfo *info, const char *text, const char *expected) {
        _cleanup_fixture_ Fixture f = {};
        _cleanup_buffer_ Buffer out = {};

        if (read_and_check(&f, info, text) < 0)
                fail_msg("%s: %s", text, f.error.detail);
        assert_int_equal(json_write_message(&out, info, f.message), 0);
        assert_int_equal(buffer_append(&out, "", 1), 0);
        assert_string_equal((char *) out.data, expected);
}

static void refused(const MessageInfo *info, const char *text, const char *detail) {
        _cleanup_fixture_ Fixture f = {};

        int r = read_and_check(&f, info, text);
        if (r >= 0)
                fail_msg("%s was accepted", text);
        assert_string_equal(f.error.detail, detail);
        assert_int_equal(r, f.error.code == ERROR_INVALID_JSON ? -EBADMSG : -EINVAL);
}

static void test_mapping(void **state) {
        /* defaults are left out, unknown members ignored, null is absent */
        reads_as(&sc__user__info, "{}", "{}");
        reads_as(&sc__user__info,
                " {\"id\":\"u\",\"username\":\"\",\"version\":0,\"later\":[{}],\"created_at\":null}\n",
                "{\"id\":\"u\"}");
        /* enums by name and by number */
        reads_as(&sc__conversation__info, "{\"kind\":\"direct\"}", "{\"kind\":\"direct\"}");
        reads_as(&sc__conversation__info, "{\"kind\":2}", "{\"kind\":\"group\"}");
        reads_as(&sc__envelope__info, "{\"kind\":\"push\",\"error\":\"not_a_member\"}",
                "{\"kind\":\"push\",\"error\":\"not_a_member\"}");
        /* a oneof is written even when it holds a default */
        reads_as(&sc__message__info, "{\"text\":\"\"}", "{\"text\":\"\"}");
        reads_as(&sc__message__info, "{\"text\":null,\"data\":\"AP8=\"}", "{\"data\":\"AP8=\"}");
        /* an empty submessage that is set */
        reads_as(&sc__message__info, "{\"event\":{}}", "{\"event\":{}}");
        reads_as(&client__reply__info, "{\"id\":3,\"ping\":{}}", "{\"id\":3,\"ping\":{}}");
        /* lists */
        reads_as(&sc__store_check_response__info, "{\"findings\":[\"a\",\"\"]}",
                "{\"findings\":[\"a\",\"\"]}");
        reads_as(&sc__store_check_response__info, "{\"findings\":[]}", "{}");
        reads_as(&sc__presence_response__info, "{\"clients\":[{},{\"user\":\"u\"}]}",
                "{\"clients\":[{},{\"user\":\"u\"}]}");
}

static void test_integers(void **state) {
        const MessageInfo *user = &sc__user__info; /* created_at: int64 */
        const MessageInfo *credential = &sc__credential__info; /* version: uint64 */

        reads_as(user, "{\"created_at\":-9223372036854775808}", "{\"created_at\":-9223372036854775808}");
        reads_as(user, "{\"created_at\":\"-9223372036854775808\"}", "{\"created_at\":-9223372036854775808}");
        reads_as(user, "{\"created_at\":\"9223372036854775807\"}", "{\"created_at\":9223372036854775807}");
        reads_as(credential, "{\"version\":9223372036854775807}", "{\"version\":9223372036854775807}");
        reads_as(credential, "{\"version\":\"9223372036854775808\"}",
                "{\"version\":\"9223372036854775808\"}");
        reads_as(credential, "{\"version\":\"18446744073709551615\"}",
                "{\"version\":\"18446744073709551615\"}");
        reads_as(credential, "{\"version\":3.0}", "{\"version\":3}");
        reads_as(credential, "{\"version\":1e3}", "{\"version\":1000}");
        reads_as(user, "{\"created_at\":-2.0}", "{\"created_at\":-2}");
        reads_as(credential, "{\"version\":-0}", "{}");
        reads_as(&sc__history_request__info, "{\"conversation\":\"c\",\"limit\":1000}",
                "{\"conversation\":\"c\",\"limit\":1000}");

        refused(credential, "{\"version\":1.5}", "version: must be an integer");
        refused(credential, "{\"version\":1e300}",
                "version: must be an integer from 0 to 18446744073709551615");
        refused(credential, "{\"version\":9007199254740993.0e1}",
                "version: must be an integer from 0 to 18446744073709551615");
        refused(credential, "{\"version\":-1}",
                "version: must be an integer from 0 to 18446744073709551615");
        refused(credential, "{\"version\":\"18446744073709551616\"}",
                "version: must be an integer from 0 to 18446744073709551615");
        refused(credential, "{\"version\":\"\"}", "version: must be an integer");
        refused(credential, "{\"version\":\" 1\"}", "version: must be an integer");
        refused(credential, "{\"version\":\"+1\"}", "version: must be an integer");
        refused(credential, "{\"version\":true}", "version: must be an integer");
        refused(user, "{\"created_at\":\"9223372036854775808\"}",
                "created_at: must be an integer from -9223372036854775808 to 9223372036854775807");
        refused(user, "{\"created_at\":\"--1\"}", "created_at: must be an integer");
        refused(&sc__history_request__info, "{\"limit\":4294967296}",
                "limit: must be an integer from 0 to 4294967295");
        refused(&client__history_request__info, "{\"limit\":-2147483649}",
                "limit: must be an integer from -2147483648 to 2147483647");
        reads_as(&client__history_request__info, "{\"channel\":\"c\",\"limit\":-2147483648}",
                "{\"channel\":\"c\",\"limit\":-2147483648}");
}

/* What is stored and not shown is neither written nor, being unknown, taken. */
static void test_private(void **state) {
        Sc__User user = SC__USER__INIT;
        _cleanup_buffer_ Buffer out = {};
        _cleanup_arena_ Arena arena = {};
        JsonError error = {};

        reads_as(&sc__user__info, "{\"id\":\"u\",\"version\":7}", "{\"id\":\"u\"}");
        reads_as(&sc__user__info, "{\"id\":\"u\",\"version\":\"no number\"}", "{\"id\":\"u\"}");
        user.version = 7;
        assert_int_equal(json_write_message(&out, &sc__user__info, &user.base), 0);
        assert_int_equal(out.size, 2);
        assert_memory_equal(out.data, "{}", out.size);
        arena_init(&arena, 1U << 16);
        assert_int_equal(
                json_read_parameter(&arena, &sc__user__info, &user.base, "version", "8", &error), -ENOENT);
        assert_int_equal(user.version, 7);
}

static void test_strings(void **state) {
        reads_as(&sc__user__info, "{\"id\":\"\\u00e9\\ud83d\\udc26 \\\"\\\\\\/\\b\\u001f\"}",
                "{\"id\":\"é🐦 \\\"\\\\/\\b\\u001f\"}");
        refused(&sc__user__info, "{\"id\":1}", "id: must be a string");
        refused(&sc__user__info, "{\"id\":\"a\\u0000b\"}",
                "line 1, column 16: a NUL character is not allowed");
        refused(&sc__user__info, "{\"id\":\"\xc0\x80\"}", "line 1, column 7: not UTF-8");

        /* what did not come by JSON */
        Sc__User user = SC__USER__INIT;
        _cleanup_buffer_ Buffer out = {};
        user.id = (char *) "a\xffz";
        assert_int_equal(json_write_message(&out, &sc__user__info, &user.base), 0);
        assert_memory_equal(out.data, "{\"id\":\"a\\ufffdz\"}", out.size);
}

static void test_base64(void **state) {
        static const char *const good[] = {"AA==", "AAA=", "AAAA", "+/+/", "AAECAwQ="};
        static const char *const bad[] = {"A", "AA", "AA=", "AAA",
                "AB==", "AAB=", "A===", "AA==AA==", "AA=A", "====", "-_-_", "AA A", "AAA\\n"};
        char text[64];

        FOREACH_ARRAY(s, good, ELEMENTSOF(good)) {
                snprintf(text, sizeof(text), "{\"data\":\"%s\"}", *s);
                reads_as(&sc__message__info, text, text);
        }
        FOREACH_ARRAY(s, bad, ELEMENTSOF(bad)) {
                snprintf(text, sizeof(text), "{\"data\":\"%s\"}", *s);
                refused(&sc__message__info, text, "data: must be base64 (standard alphabet, with padding)");
        }
        refused(&sc__message__info, "{\"data\":[]}", "data: must be a string with base64");
}

static void test_raw_json(void **state) {
        const MessageInfo *info = &client__publication__info;

        reads_as(info, "{\"data\": { \"a\" : [ 1 , 0.1, 1.0, -9223372036854775808, \"\\n\", null ] } }",
                "{\"data\":{\"a\":[1,0.1,1.0,-9223372036854775808,\"\\n\",null]}}");
        reads_as(info, "{\"data\":\"text\"}", "{\"data\":\"text\"}");
        reads_as(info, "{\"data\":1e100}", "{\"data\":1e+100}");
        reads_as(info, "{\"data\":[0.30000000000000004]}", "{\"data\":[0.30000000000000004]}");
        reads_as(info, "{\"data\":null}", "{}");
        reads_as(info, "{\"data\":{}}", "{\"data\":{}}");

        /* from the binary side: as it is, but on one line; and checked */
        Client__Publication publication = CLIENT__PUBLICATION__INIT;
        _cleanup_buffer_ Buffer out = {};
        JsonError error;
        publication.data = (ProtobufCBinaryData){9, (uint8_t *) "{\n\r\"a\": 1}"};
        assert_int_equal(message_check(info, &publication.base, &error), -EINVAL);
        assert_string_equal(error.detail, "data: must be JSON");
        publication.data.len = 10;
        assert_int_equal(message_check(info, &publication.base, &error), 0);
        assert_int_equal(json_write_message(&out, info, &publication.base), 0);
        assert_memory_equal(out.data, "{\"data\":{  \"a\": 1}}", out.size);
}

static void test_maps(void **state) {
        const MessageInfo *info = &client__connect_request__info;

        reads_as(info, "{\"headers\":{\"a\":\"1\",\"\":\"\"}}", "{\"headers\":{\"a\":\"1\",\"\":\"\"}}");
        reads_as(info, "{\"headers\":{}}", "{}");
        reads_as(info, "{\"subs\":{\"c\":{\"offset\":5}}}", "{\"subs\":{\"c\":{\"offset\":5}}}");
        refused(info, "{\"headers\":[]}", "headers: must be an object");
        refused(info, "{\"headers\":{\"a\":1}}", "headers[a]: must be a string");
        refused(info, "{\"headers\":{\"a\":null}}", "headers[a]: must be a string");
        refused(info, "{\"headers\":{\"not shown\":1}}", "headers[…]: must be a string");
        refused(info, "{\"subs\":{\"c\":{\"offset\":-5}}}",
                "subs[c].offset: must be an integer from 0 to 18446744073709551615");

        /* on the wire a key may come twice */
        Client__ConnectRequest__HeadersEntry entries[2] = {
                CLIENT__CONNECT_REQUEST__HEADERS_ENTRY__INIT, CLIENT__CONNECT_REQUEST__HEADERS_ENTRY__INIT};
        Client__ConnectRequest__HeadersEntry *pointers[] = {&entries[0], &entries[1]};
        Client__ConnectRequest request = CLIENT__CONNECT_REQUEST__INIT;
        JsonError error;
        request.n_headers = 2;
        request.headers = pointers;
        entries[0].key = entries[1].key = (char *) "same";
        assert_int_equal(message_check(info, &request.base, &error), -EINVAL);
        assert_string_equal(error.detail, "headers: keys must differ");
        entries[1].key = (char *) "\xff";
        assert_int_equal(message_check(info, &request.base, &error), -EINVAL);
        assert_string_equal(error.detail, "headers: keys must be UTF-8");
}

static void test_types(void **state) {
        refused(&sc__user__info, "[]", "must be an object");
        refused(&sc__user__info, "1", "must be an object");
        refused(&sc__message__info, "{\"event\":[]}", "event: must be an object");
        refused(&sc__presence_response__info, "{\"clients\":{}}", "clients: must be a list");
        refused(&sc__presence_response__info, "{\"clients\":[{},null]}", "clients[1]: must be an object");
        refused(&sc__presence_response__info, "{\"clients\":[{},{},{\"user\":7}]}",
                "clients[2].user: must be a string");
        refused(&sc__conversation__info, "{\"kind\":\"nonsense\"}", "kind: no such value");
        refused(&sc__conversation__info, "{\"kind\":77}", "kind: no such value");
        refused(&sc__conversation__info, "{\"kind\":[]}", "kind: must be an integer");
        refused(&sc__send_response__info, "{\"duplicate\":1}", "duplicate: must be true or false");
        refused(&sc__message__info, "{\"text\":\"a\",\"data\":\"AAAA\"}",
                "data: cannot be given together with text");
        refused(&client__command__info, "{\"ping\":{},\"rpc\":{}}",
                "rpc: cannot be given together with ping");
}

static void test_rules(void **state) {
        const MessageInfo *info = &sc__register_request__info;
        char text[4096];

        reads_as(info, "{\"username\":\"ann\",\"password\":\"12345678\"}",
                "{\"username\":\"ann\",\"password\":\"12345678\"}");
        refused(info, "{}", "username: is required");
        refused(info, "{\"username\":\"ann\",\"password\":\"\"}", "password: is required");
        refused(info, "{\"username\":\"ann\",\"password\":null}", "password: is required");
        refused(info, "{\"username\":\"a\",\"password\":\"12345678\"}", "username: at least 2 bytes");
        refused(info, "{\"username\":\"ann\",\"password\":\"1234567\"}", "password: at least 8 bytes");
        refused(info, "{\"username\":\"a b\",\"password\":\"12345678\"}",
                "username: only the characters A-Z a-z 0-9 - _ . : # @");
        snprintf(text, sizeof(text), "{\"username\":\"%033d\",\"password\":\"12345678\"}", 1);
        refused(info, text, "username: at most 32 bytes");
        refused(&sc__mark_read_request__info, "{\"conversation\":\"c\",\"seq\":0}", "seq: is required");
        refused(&sc__history_request__info, "{\"conversation\":\"c\",\"limit\":1001}",
                "limit: at most 1000");
        snprintf(text, sizeof(text), "{\"data\":\"%03000d\"}", 0); /* 2250 bytes, of any number */
        refused(&sc__send_request__info, text, "conversation: is required");
        /* nested: the rules of what is inside hold too */
        refused(&client__command__info, "{\"rpc\":{}}", "rpc.method: is required");
        refused(&client__command__info, "{\"publish\":{\"channel\":\"c\",\"data\":null}}",
                "publish.data: is required");
}

static void test_rules_between_fields(void **state) {
        const MessageInfo *send = &sc__send_request__info, *history = &sc__history_request__info;

        refused(send, "{\"conversation\":\"c\"}", "text: this or data is required");
        refused(send, "{\"conversation\":\"c\",\"text\":\"\"}", "text: this or data is required");
        refused(send, "{\"conversation\":\"c\",\"data\":\"\"}", "text: this or data is required");
        refused(send, "{\"conversation\":\"c\",\"text\":null}", "text: this or data is required");
        refused(send, "{\"conversation\":\"c\",\"text\":\"a\",\"data\":\"YQ==\"}",
                "data: cannot be given together with text");
        refused(history, "{\"conversation\":\"c\",\"before\":1,\"after\":2}",
                "after: cannot be given together with before");
        Sc__HistoryRequest request = SC__HISTORY_REQUEST__INIT;
        JsonError error;
        request.conversation = (char *) "c";
        request.before = 3;
        assert_int_equal(message_check(history, &request.base, &error), 0);
}

/* What only comes by the binary surfaces. */
static void test_rules_of_binary(void **state) {
        Sc__SendRequest request = SC__SEND_REQUEST__INIT;
        Sc__Conversation conversation = SC__CONVERSATION__INIT;
        _cleanup_free_ uint8_t *large = calloc(1, 65537);
        JsonError error = {};

        request.conversation = (char *) "c";
        request.body_case = SC__SEND_REQUEST__BODY_DATA;
        request.data = (ProtobufCBinaryData){65536, large};
        assert_int_equal(message_check(&sc__send_request__info, &request.base, &error), 0);
        request.data.len = 65537;
        assert_int_equal(message_check(&sc__send_request__info, &request.base, &error), -EINVAL);
        assert_string_equal(error.detail, "data: at most 65536 bytes");
        request.data.len = 0;
        request.client_msg_id = (char *) "\xed\xa0\x80";
        assert_int_equal(message_check(&sc__send_request__info, &request.base, &error), -EINVAL);
        assert_string_equal(error.detail, "client_msg_id: must be UTF-8");
        assert_int_equal(error.code, ERROR_INVALID_ARGUMENT);
        conversation.kind = (Sc__ConversationKind) 9;
        assert_int_equal(message_check(&sc__conversation__info, &conversation.base, &error), -EINVAL);
        assert_string_equal(error.detail, "kind: no such value");
}

static void test_syntax(void **state) {
        const MessageInfo *info = &sc__user__info;

        refused(info, "", "line 1, column 1: the text is empty");
        refused(info, "{", "line 1, column 1: the text ends too early");
        refused(info, "{}x", "line 1, column 3: something follows the value");
        refused(info, "{\"id\":}", "line 1, column 7: not JSON");
        refused(info, "{\"id\":\"a\",\n\"id\":\"b\"}",
                "line 2, column 4: a name appears twice in one object");
        refused(info, "{\"version\":18446744073709551616}", "line 1, column 31: a number is too large");
        refused(info, "{\"x\":[1,]}", "line 1, column 9: not JSON");
}

static void test_nul_bytes(void **state) {
        static const char *const texts[] = {"true\0", "{}\0\0", "\0{}", "{\"id\":\"a\0\"}"};
        static const size_t sizes[] = {5, 4, 3, 11};
        json_t *json = NULL;
        JsonError error;

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                assert_int_equal(json_parse(texts[i], sizes[i], &json, &error), -EBADMSG);
                assert_non_null(strstr(error.detail, "a NUL character is not allowed"));
        }
}

static void test_depth(void **state) {
        _cleanup_json_ json_t *json = NULL;
        char text[2 * JSON_MAX_DEPTH + 3] = "";
        JsonError error;

        memset(text, '[', JSON_MAX_DEPTH);
        memset(text + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH);
        assert_int_equal(json_parse(text, 2 * JSON_MAX_DEPTH, &json, &error), 0);
        assert_true(json_is_valid(text, 2 * JSON_MAX_DEPTH));
        memset(text, '[', JSON_MAX_DEPTH + 1);
        memset(text + JSON_MAX_DEPTH + 1, ']', JSON_MAX_DEPTH + 1);
        refused(&sc__user__info, text, "line 1, column 33: nested too deep");
        assert_false(json_is_valid(text, 2 * JSON_MAX_DEPTH + 2));
        /* brackets in a string do not count */
        reads_as(&sc__user__info, "{\"id\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[\"}",
                "{\"id\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[\"}");
}

static void test_secrets_stay_secret(void **state) {
        static const char *const texts[] = {"{\"username\":\"ann\",\"password\":\"hunter2\"}",
                "{\"username\":\"ann\",\"password\":hunter2}",
                "{\"username\":\"ann\",\"password\":[\"hunter2\"]}",
                "{\"username\":\"ann\",\"password\":\"hunter2\"", "{\"hunter2\":1,\"hunter2\":2}"};
        _cleanup_fixture_ Fixture f = {};

        FOREACH_ARRAY(text, texts, ELEMENTSOF(texts)) {
                assert_true(read_and_check(&f, &sc__register_request__info, *text) < 0);
                assert_null(strstr(f.error.detail, "hunter2"));
        }
}

static void test_long_path_is_cut(void **state) {
        JsonError error = {};
        Client__ConnectRequest__SubsEntry entry = CLIENT__CONNECT_REQUEST__SUBS_ENTRY__INIT,
                                          *entries = &entry;
        Client__SubscribeRequest subscribe = CLIENT__SUBSCRIBE_REQUEST__INIT;
        Client__Command command = CLIENT__COMMAND__INIT;
        Client__ConnectRequest request = CLIENT__CONNECT_REQUEST__INIT;

        entry.key = (char *) "0123456789012345678901234567890x";
        entry.value = &subscribe;
        subscribe.epoch = (char *) "\xff";
        request.n_subs = 1;
        request.subs = &entries;
        command.method_case = CLIENT__COMMAND__METHOD_CONNECT;
        command.connect = &request;
        assert_int_equal(message_check(&client__command__info, &command.base, &error), -EINVAL);
        assert_string_equal(
                error.detail, "connect.subs[0123456789012345678901234567890x].epoch: must be UTF-8");
}

static void test_parameters(void **state) {
        _cleanup_arena_ Arena arena = {};
        _cleanup_json_ json_t *same = NULL, *other = NULL, *rest = NULL;
        const MessageInfo *history = &sc__history_request__info, *send = &sc__send_request__info;
        JsonError error = {};

        arena_init(&arena, 1U << 16);
        ProtobufCMessage *message = arena_new_message(&arena, history->descriptor);
        assert_int_equal(json_read_parameter(&arena, history, message, "conversation", "c", &error), 0);
        assert_int_equal(json_read_parameter(&arena, history, message, "limit", "20", &error), 0);
        assert_int_equal(
                json_read_parameter(&arena, history, message, "before", "18446744073709551615", &error), 0);
        assert_int_equal(json_read_parameter(&arena, history, message, "nothing", "1", &error), -ENOENT);
        assert_int_equal(json_read_parameter(&arena, history, message, "limit", "30", &error), -EINVAL);
        assert_string_equal(error.detail, "limit: is given twice");
        assert_int_equal(json_read_parameter(&arena, history, message, "after", "x", &error), -EINVAL);
        assert_string_equal(error.detail, "after: must be an integer");
        assert_int_equal(json_read_parameter(&arena, history, message, "after", "", &error), -EINVAL);
        const Sc__HistoryRequest *request = (const Sc__HistoryRequest *) message;
        assert_string_equal(request->conversation, "c");
        assert_int_equal(request->limit, 20);
        assert_true(request->before == UINT64_MAX);
        message = arena_new_message(&arena, send->descriptor);
        assert_int_equal(json_read_parameter(&arena, send, message, "kind", "\xff", &error), -EINVAL);
        assert_string_equal(error.detail, "kind: must be UTF-8");
        message = arena_new_message(&arena, &sc__send_response__descriptor);
        assert_int_equal(
                json_read_parameter(&arena, &sc__send_response__info, message, "duplicate", "yes", &error),
                -EINVAL);
        assert_string_equal(error.detail, "duplicate: must be true or false");
        assert_int_equal(
                json_read_parameter(&arena, &sc__send_response__info, message, "duplicate", "true", &error),
                0);
        message = arena_new_message(&arena, &sc__presence_response__descriptor);
        assert_int_equal(
                json_read_parameter(&arena, &sc__presence_response__info, message, "clients", "", &error),
                -ENOENT);

        /* together with a body: it may repeat what the path says, and not contradict it */
        message = arena_new_message(&arena, send->descriptor);
        assert_int_equal(json_read_parameter(&arena, send, message, "conversation", "c", &error), 0);
        rest = json_pack("{s:s}", "text", "hello");
        assert_int_equal(json_read_message(&arena, send, rest, &message, &error), 0);
        same = json_pack("{s:s}", "conversation", "c");
        assert_int_equal(json_read_message(&arena, send, same, &message, &error), 0);
        other = json_pack("{s:s}", "conversation", "d");
        assert_int_equal(json_read_message(&arena, send, other, &message, &error), -EINVAL);
        assert_string_equal(error.detail, "conversation: is given twice, with different values");
        assert_string_equal(((const Sc__SendRequest *) message)->conversation, "c");
        assert_string_equal(((const Sc__SendRequest *) message)->text, "hello");
}

static void test_validate(void **state) {
        static const char *const good[] = {"1", " -0.5e+10 ", "0", "\"\"", "[]", "{}",
                "[1, [2], {\"a\":[]}]", "{\"a\":{\"b\":null},\"c\":true}", "\"\\ud83d\\udc26\\u00e9\\\\\"",
                "false", "\"é\""};
        static const char *const bad[] = {"", " ", "01", "1.", ".5", "-", "1e", "+1", "nul", "nulll", "\"",
                "\"\\\"", "\"\\x\"", "\"\\u00g0\"", "\"\\u0000\"", "\"\\ud83d\"", "\"\\udc26\"",
                "\"\\ud83d\\u0041\"", "\"\n\"", "\"\xff\"", "[", "]", "[1,]", "[,1]", "[1 2]", "[1}", "{",
                "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{1:1}", "{\"a\":1 \"b\":2}", "1 2", "[]]",
                "{,}", "[[]", "\"\\u12"};

        FOREACH_ARRAY(text, good, ELEMENTSOF(good))
                if (!json_is_valid(*text, strlen(*text)))
                        fail_msg("%s is valid", *text);
        FOREACH_ARRAY(text, bad, ELEMENTSOF(bad))
                if (json_is_valid(*text, strlen(*text)))
                        fail_msg("%s is not valid", *text);
}

static void test_limits(void **state) {
        _cleanup_arena_ Arena arena = {};
        _cleanup_json_ json_t *json = NULL;
        _cleanup_buffer_ Buffer out = {.limit = 10};
        ProtobufCMessage *message = NULL;
        Sc__User user = SC__USER__INIT;
        JsonError error = {};

        arena_init(&arena, 200);
        json = json_pack("{s:[{},{},{},{},{},{},{},{}]}", "clients");
        assert_int_equal(
                json_read_message(&arena, &sc__presence_response__info, json, &message, &error), -ENOMEM);
        assert_true(arena.used <= arena.limit);
        user.id = (char *) "0123456789";
        assert_int_equal(json_write_message(&out, &sc__user__info, &user.base), -ENOBUFS);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_mapping),
                cmocka_unit_test(test_integers),
                cmocka_unit_test(test_private),
                cmocka_unit_test(test_strings),
                cmocka_unit_test(test_base64),
                cmocka_unit_test(test_raw_json),
                cmocka_unit_test(test_maps),
                cmocka_unit_test(test_types),
                cmocka_unit_test(test_rules),
                cmocka_unit_test(test_rules_between_fields),
                cmocka_unit_test(test_rules_of_binary),
                cmocka_unit_test(test_syntax),
                cmocka_unit_test(test_nul_bytes),
                cmocka_unit_test(test_depth),
                cmocka_unit_test(test_secrets_stay_secret),
                cmocka_unit_test(test_long_path_is_cut),
                cmocka_unit_test(test_parameters),
                cmocka_unit_test(test_validate),
                cmocka_unit_test(test_limits),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
