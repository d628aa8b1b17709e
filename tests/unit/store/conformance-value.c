/* SPDX-License-Identifier: Apache-2.0 */

/* Every kind of value comes back as it went in. */

#include "conformance-util.h"

static const int64_t integers[] = {0, 1, -1, INT32_MAX, INT32_MIN, (int64_t) INT32_MAX + 1, INT64_MAX,
        INT64_MIN, INT64_MAX - 1, 1LL << 53, (1LL << 53) + 1};

static void test_int64(void **state) {
        Fixture *f = *state;

        FOREACH_ARRAY(n, integers, ELEMENTSOF(integers)) {
                Sc__ConversationHead head = make_head("c", 0);
                head.last_at = *n;
                assert_int_equal(FOLLOW(f, "c", PUT(conversation_head, &head)), 0);
                const Sc__ConversationHead *found = GET(f, conversation_head, &head);
                assert_true(found->last_at == *n);
                assert_int_equal(guard_alone(f, "c",
                                         IF_EQUAL(DELETE(conversation_head, &head),
                                                 FIELD(conversation_head, last_at))),
                        0);
                assert_int_equal(guard_alone(f, "c", INSERT(conversation_head, &head)), 0);
                found = GET(f, conversation_head, &head);
                assert_true(found->last_at == *n);
        }
}

/* All 64 bits are kept, though only values up to 2^63 - 1 sort as one expects. */
static void test_uint64(void **state) {
        Fixture *f = *state;
        static const uint64_t values[] = {0, 1, UINT32_MAX, INT64_MAX, (uint64_t) INT64_MAX + 1, UINT64_MAX};

        FOREACH_ARRAY(n, values, ELEMENTSOF(values)) {
                Sc__ConversationHead head = make_head("c", *n);
                assert_int_equal(FOLLOW(f, "c", PUT(conversation_head, &head)), 0);
                const Sc__ConversationHead *found = GET(f, conversation_head, &head);
                assert_true(found->last_seq == *n);
        }
}

static void test_uint32_and_bool(void **state) {
        Fixture *f = *state;
        static const uint32_t values[] = {0, 1, INT32_MAX, (uint32_t) INT32_MAX + 1, UINT32_MAX};

        FOREACH_ARRAY(n, values, ELEMENTSOF(values)) {
                Sc__Intent intent = SC__INTENT__INIT;
                intent.source = (char *) "c";
                intent.number = 1;
                intent.shard = *n;
                intent.parked = *n % 2;
                intent.trace_sampled = !intent.parked;
                assert_int_equal(FOLLOW(f, "c", PUT(intent, &intent)), 0);
                const Sc__Intent *found = GET(f, intent, &intent);
                assert_true(found->shard == *n);
                assert_int_equal(found->parked, *n % 2);
                assert_int_equal(found->trace_sampled, *n % 2 == 0);
        }
}

static void test_enum(void **state) {
        Fixture *f = *state;

        for (int kind = 0; kind <= 3; kind++) {
                Sc__Conversation conversation = make_conversation("c", "x");
                conversation.kind = kind;
                assert_int_equal(FOLLOW(f, "c", PUT(conversation, &conversation)), 0);
                const Sc__Conversation *found = GET(f, conversation, &conversation);
                assert_int_equal(found->kind, kind);
        }
}

static const char *const texts[] = {"", "a", "A", " ", "'", "\"", "\\", "%", "_", "\t\r\n", "\x01\x7f",
        "ünïcode", "\xf0\x9f\x90\xa6", "e\xcc\x81", "\xc3\xa9", "NULL", "0", "1e3", "{}", "a\\'b", "$1",
        "?1", "\xf4\x8f\xbf\xbf"};

static void test_text(void **state) {
        Fixture *f = *state;

        FOREACH_ARRAY(text, texts, ELEMENTSOF(texts)) {
                const Sc__Conversation conversation = make_conversation("c", *text);
                assert_int_equal(FOLLOW(f, "c", PUT(conversation, &conversation)), 0);
                const Sc__Conversation *found = GET(f, conversation, &conversation);
                assert_string_equal(found->title, *text);
        }
}

/* As keys, too: each is another record, in its own partition. */
static void test_text_as_key(void **state) {
        Fixture *f = *state;

        FOREACH_ARRAY(text, texts + 1, ELEMENTSOF(texts) - 1) {
                const Sc__Conversation conversation = make_conversation(*text, *text);
                assert_int_equal(guard_alone(f, *text, INSERT(conversation, &conversation)), 0);
        }
        FOREACH_ARRAY(text, texts + 1, ELEMENTSOF(texts) - 1) {
                const Sc__Conversation key = make_conversation(*text, "");
                const Sc__Conversation *found = GET(f, conversation, &key);
                assert_string_equal(found->title, *text);
        }
        FOREACH_ARRAY(text, texts, ELEMENTSOF(texts)) {
                const Sc__Member member = make_member("c", *text, 1);
                assert_int_equal(guard_alone(f, "c", INSERT(member, &member)), 0);
                assert_int_equal(guard_alone(f, "c", INSERT(member, &member)), -EEXIST);
        }
}

static void test_bytes(void **state) {
        Fixture *f = *state;
        uint8_t all[256];

        for (unsigned i = 0; i < sizeof(all); i++)
                all[i] = (uint8_t) i;
        for (size_t size = 0; size <= sizeof(all); size += size < 4 ? 1 : 84) {
                Sc__Session session = make_session("u", "s", 1);
                session.refresh_hash = (ProtobufCBinaryData){size, all};
                session.previous_hash = (ProtobufCBinaryData){size, all + sizeof(all) - size};
                assert_int_equal(guard_alone(f, "u", INSERT(session, &session)), 0);
                const Sc__Session *found = GET(f, session, &session);
                assert_int_equal(found->refresh_hash.len, size);
                assert_int_equal(found->previous_hash.len, size);
                if (size > 0) {
                        assert_memory_equal(found->refresh_hash.data, all, size);
                        assert_memory_equal(found->previous_hash.data, all + sizeof(all) - size, size);
                }
                assert_int_equal(guard_alone(f, "u",
                                         IF_EQUAL(DELETE(session, &session), FIELD(session, refresh_hash))),
                        0);
        }
}

/* As large as a body may be, of text and of bytes. */
static void test_large(void **state) {
        Fixture *f = *state;
        enum { SIZE = 65536 };
        static char text[SIZE + 1];
        static uint8_t data[SIZE];
        Sc__Message first = fixture_message("c", "a", "1", text),
                    second = fixture_message("c", "a", "2", "");

        for (unsigned i = 0; i < SIZE; i++) {
                text[i] = (char) ('a' + i % 26);
                data[i] = (uint8_t) (i * 7);
        }
        second.body_case = SC__MESSAGE__BODY_DATA;
        second.data = (ProtobufCBinaryData){SIZE, data};
        assert_int_equal(fixture_append(f, "c", 0, (Sc__Message *[]){&first, &second}, 2).r, 0);
        first.seq = 1;
        second.seq = 2;
        const Sc__Message *found = GET(f, message, &first);
        assert_string_equal(found->text, text);
        found = GET(f, message, &second);
        assert_int_equal(found->data.len, SIZE);
        assert_memory_equal(found->data.data, data, SIZE);
}

/* Either member of a oneof, empty or not, and none of them. */
static void test_oneof(void **state) {
        Fixture *f = *state;
        Sc__Message text = fixture_message("c", "a", "1", "x"),
                    empty_text = fixture_message("c", "a", "2", ""),
                    data = fixture_message("c", "a", "3", ""),
                    empty_data = fixture_message("c", "a", "4", ""),
                    none = fixture_message("c", "a", "5", "");

        data.body_case = empty_data.body_case = SC__MESSAGE__BODY_DATA;
        data.data = (ProtobufCBinaryData){1, (uint8_t *) ""};
        empty_data.data = (ProtobufCBinaryData){};
        none.body_case = SC__MESSAGE__BODY__NOT_SET;
        Sc__Message *entries[] = {&text, &empty_text, &data, &empty_data, &none};
        assert_int_equal(fixture_append(f, "c", 0, entries, ELEMENTSOF(entries)).r, 0);
        for (unsigned i = 0; i < ELEMENTSOF(entries); i++) {
                entries[i]->seq = i + 1;
                const Sc__Message *found = GET(f, message, entries[i]);
                assert_int_equal(found->body_case, entries[i]->body_case);
                if (found->body_case == SC__MESSAGE__BODY_TEXT)
                        assert_string_equal(found->text, entries[i]->text);
                else if (found->body_case == SC__MESSAGE__BODY_DATA)
                        assert_int_equal(found->data.len, entries[i]->data.len);
        }
}

/* There, empty, and absent are three things. */
static void test_nested_message(void **state) {
        Fixture *f = *state;
        Sc__ConversationAdded added = SC__CONVERSATION_ADDED__INIT;
        Sc__Event event = SC__EVENT__INIT, empty = SC__EVENT__INIT;
        Sc__Message full = fixture_message("c", "a", "1", ""), bare = fixture_message("c", "a", "2", ""),
                    none = fixture_message("c", "a", "3", "");

        event.what_case = SC__EVENT__WHAT_CONVERSATION_ADDED;
        event.conversation_added = &added;
        added.conversation = (char *) "elsewhere";
        added.kind = SC__CONVERSATION_KIND__CONVERSATION_KIND_GROUP;
        full.event = &event;
        bare.event = &empty;
        Sc__Message *entries[] = {&full, &bare, &none};
        assert_int_equal(fixture_append(f, "c", 0, entries, ELEMENTSOF(entries)).r, 0);
        for (unsigned i = 0; i < ELEMENTSOF(entries); i++)
                entries[i]->seq = i + 1;
        const Sc__Message *found = GET(f, message, &full);
        assert_non_null(found->event);
        assert_int_equal(found->event->what_case, SC__EVENT__WHAT_CONVERSATION_ADDED);
        assert_string_equal(found->event->conversation_added->conversation, "elsewhere");
        assert_int_equal(found->event->conversation_added->kind, added.kind);
        found = GET(f, message, &bare);
        assert_non_null(found->event);
        assert_int_equal(found->event->what_case, SC__EVENT__WHAT__NOT_SET);
        found = GET(f, message, &none);
        assert_null(found->event);
}

int conformance_run_values(void) {
        static const struct CMUnitTest tests[] = {
                CONFORMANCE_TEST(test_int64),
                CONFORMANCE_TEST(test_uint64),
                CONFORMANCE_TEST(test_uint32_and_bool),
                CONFORMANCE_TEST(test_enum),
                CONFORMANCE_TEST(test_text),
                CONFORMANCE_TEST(test_text_as_key),
                CONFORMANCE_TEST(test_bytes),
                CONFORMANCE_TEST(test_large),
                CONFORMANCE_TEST(test_oneof),
                CONFORMANCE_TEST(test_nested_message),
        };
        return cmocka_run_group_tests_name("values", tests, NULL, NULL);
}
