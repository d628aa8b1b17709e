/* SPDX-License-Identifier: Apache-2.0 */

/* Connections and commands: what a client says and what it is answered. */

#include "fixture.h"

#include "schema-tables.h"
#include "util/string-util.h"

/* --- connecting --- */

static void test_connect(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900);
        WebSocket *a = client_open();

        client_say(a, "{'id':1,'connect':{'token':'%s','name':'js','version':'1'}}", token);
        assert_hears_nothing(a);
        answer_check(true);
        FakeRequest *request = next_request();
        Sc__AttachRequest *attach = attach_request(request);
        assert_int_equal(attach->n_clients, 1);
        assert_string_equal(attach->clients[0]->user, "ann");
        assert_string_equal(attach->clients[0]->session, "s1");
        assert_string_equal(attach->clients[0]->device, "phone");
        assert_string_equal(attach->clients[0]->client, client_id(a));
        sc__attach_request__free_unpacked(attach, NULL);
        answer_attach(request, (FakeSubscription[]){{"c1", "e1", 7}, {"#ann", "e2", 0}}, 2);
        assert_hears(a,
                "{'id':1,'connect':{'client':'%s','version':'Stonechat %s','expires':true,'ttl':900,'subs':{"
                "'c1':{'recoverable':true,'epoch':'e1','offset':7,'positioned':true},"
                "'#ann':{'recoverable':true,'epoch':'e2','positioned':true}},'ping':25,'pong':true}}",
                client_id(a), STONECHAT_VERSION);
        assert_int_equal(fake_role->n_signed_in, 1);
        assert_closed(a, 0);
}

/* What was missed comes behind the reply. */
static void test_recovery(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900);
        _cleanup_free_ char *five = publication("c1", 5), *six = publication("c1", 6);
        WebSocket *a = client_open();

        client_say(a,
                "{'id':1,'connect':{'token':'%s','subs':{'c1':{'recover':true,'epoch':'e1','offset':4},"
                "'c2':{'recover':true,'offset':9,'epoch':'x'},'c3':{'recover':false,'offset':1},"
                "'c4':{'recover':true,'epoch':'e4','offset':3},'c5':{'recover':true,'epoch':'e5','offset':3}"
                "}}}",
                token);
        answer_check(true);
        answer_attach(next_request(),
                (FakeSubscription[]){{"c1", "e1", 6}, {"c2", "e2", 20}, {"c3", "e3", 2}, {"c4", "e4", 3},
                        {"c5", "e5", 999}},
                5);
        assert_hears(a,
                "{'id':1,'connect':{'client':'%s','version':'Stonechat %s','expires':true,'ttl':900,'subs':{"
                "'c1':{'recoverable':true,'epoch':'e1','recovered':true,'offset':4,'positioned':true,"
                "'was_recovering':true},"
                "'c2':{'recoverable':true,'epoch':'e2','offset':20,'positioned':true,'was_recovering':true},"
                "'c3':{'recoverable':true,'epoch':'e3','offset':2,'positioned':true},"
                "'c4':{'recoverable':true,'epoch':'e4','recovered':true,'offset':3,'positioned':true,"
                "'was_recovering':true},"
                "'c5':{'recoverable':true,'epoch':'e5','offset':999,'positioned':true,'was_recovering':true}"
                "},"
                "'ping':25,'pong':true}}",
                client_id(a), STONECHAT_VERSION);
        answer_recover(assert_recovers("c1", 4), "e1", 6, 5, 6);
        assert_hears(a, "{'push':{'channel':'c1','pub':%s}}", five);
        assert_hears(a, "{'push':{'channel':'c1','pub':%s}}", six);
        assert_hears_nothing(a);
        assert_null(next_request());
}

/* A reply has so many conversations and no more, and those that the client knows; it is told of the others
 * behind it. So many of all are recoverable that the client's next connect command fits into a frame. */
static void test_very_many_conversations(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900);
        WebSocket *a = client_open();
        char names[8][64], after[64];
        unsigned n = 0, n_recoverable = 0;

        fake_process->conf->socket_max_frame = 1100 * CONNECTION_POSITION_SIZE;
        client_say(a,
                "{'id':1,'connect':{'token':'%s','subs':{'c1199':{'recover':true,'epoch':'e','offset':2}}}}",
                token);
        answer_check(true);
        for (unsigned page = 0; page < 150; page++) {
                FakeSubscription subscriptions[8];
                FakeRequest *request = next_request();
                Sc__AttachRequest *attach = attach_request(request);

                assert_string_equal(attach->clients[0]->after, page > 0 ? after : "");
                sc__attach_request__free_unpacked(attach, NULL);
                for (unsigned i = 0; i < 8; i++) {
                        snprintf(names[i], sizeof(names[i]), "c%u", page * 8 + i);
                        subscriptions[i] = (FakeSubscription){names[i], "e", 3};
                }
                snprintf(after, sizeof(after), "%s", names[7]);
                assert_hears_nothing(a);
                answer_attach_page(request, subscriptions, 8, page < 149 ? after : "");
        }
        const char *reply = client_hear(a);
        assert_non_null(strstr(reply, "\"c0\":{\"recoverable\":true"));
        assert_non_null(strstr(reply, "\"c999\":{\"recoverable\":true"));
        assert_null(strstr(reply, "\"c1000\""));
        assert_non_null(strstr(
                reply, "\"c1199\":{\"recoverable\":true,\"epoch\":\"e\",\"recovered\":true,\"offset\":2"));
        while ((reply = client_hear(a))) {
                snprintf(after, sizeof(after), "{\"push\":{\"channel\":\"c%u\",\"subscribe\":{", 1000 + n++);
                assert_non_null(strstr(reply, after));
                n_recoverable += strstr(reply, "\"recoverable\":true") != NULL;
        }
        assert_int_equal(n, 199);
        assert_int_equal(n_recoverable, 1100 - 1001);
        push_message("c1150", 4); /* all are heard */
        assert_non_null(client_hear(a));
        answer_recover(assert_recovers("c1199", 2), "e", 3, 3, 3);
        assert_non_null(client_hear(a));
        assert_hears_nothing(a);
}

/* Beyond the limit they are not heard, and the client is told so, once. */
static void test_too_many_conversations(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900);
        WebSocket *a = client_open();

        fake_process->conf->socket_max_conversations = 2;
        client_say(a, "{'id':1,'connect':{'token':'%s'}}", token);
        answer_check(true);
        answer_attach(
                next_request(), (FakeSubscription[]){{"c1", "e", 0}, {"c2", "e", 0}, {"c3", "e", 0}}, 3);
        const char *reply = client_hear(a);
        assert_non_null(strstr(reply, "\"c2\""));
        assert_null(strstr(reply, "\"c3\""));
        assert_hears(a, "{'push':{'message':{'data':{'error':{'code':106,'message':'limit_exceeded: only 2 "
                        "conversations are heard'}}}}}");
        push_membership("ann", "c4", 0, false);
        push_message("c3", 1);
        assert_hears_nothing(a);
        assert_closed(a, 0);
}

/* Which must fit into a frame, as the SDKs write them. */
static void test_size_of_positions(void **state) {
        static const char position[] =
                ",\"01234567-89ab-7def-8123-456789abcdef\":{\"recover\":true,"
                "\"offset\":1234567890,\"epoch\":\"01234567-89ab-7def-8123-456789abcdef\"}";
        uint64_t frame = fake_process->conf->socket_max_frame;

        assert_true(frame / CONNECTION_POSITION_SIZE * strlen(position) + TOKEN_MAX_SIZE + 1024 <= frame);
}

static void test_connect_refused(void **state) {
        _cleanup_free_ char *expired = make_token("ann", "s1", -10), *good = make_token("ann", "s1", 900);

        WebSocket *a = client_open();
        client_say(a, "{'id':1,'connect':{}}");
        assert_closed(a, 3500);
        a = client_open();
        client_say(a, "{'id':1,'connect':{'token':'%sx'}}", good);
        assert_closed(a, 3500);
        a = client_open();
        client_say(a, "{'id':1,'connect':{'token':'%s'}}", expired);
        assert_error(a, 1, 109, "token_expired");
        assert_closed(a, 0); /* it may come back with another one */
        a = client_open();
        client_say(a, "{'id':1,'connect':{'token':'%s'}}", good);
        answer_check(false);
        assert_closed(a, 3500);
        a = client_open();
        client_say(a, "{'id':1,'connect':7}");
        assert_error(a, 1, 107, "invalid_argument");
}

static void test_connect_fails_and_is_repeated(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900);
        WebSocket *a = client_open();

        client_say(a, "{'id':1,'connect':{'token':'%s'}}", token);
        fail_check(ERROR_UNAVAILABLE);
        assert_error(a, 1, 100, "unavailable");
        assert_null(connected_user_find(fake_role, "ann"));
        client_say(a, "{'id':2,'connect':{'token':'%s'}}", token);
        answer_check(true);
        refuse(next_request(), ERROR_TIMEOUT);
        assert_error(a, 2, 1004, "timeout");
        assert_detaches(client_id(a));
        client_say(a, "{'id':3,'connect':{'token':'%s'}}", token);
        answer_check(true);
        answer_attach(next_request(), NULL, 0);
        assert_non_null(client_hear(a));
        assert_int_equal(fake_role->n_signed_in, 1);
}

static void test_connection_limit(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900);

        fake_process->conf->socket_max_connections_per_user = 1;
        client_connected("ann", "s1", "c1", 0);
        WebSocket *b = client_open();
        client_say(b, "{'id':1,'connect':{'token':'%s'}}", token);
        assert_closed(b, 3504);
}

static void test_commands_behind_connect_wait(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900);
        WebSocket *a = client_open();

        client_say(a, "{'id':1,'connect':{'token':'%s'}}\n{'id':2,'ping':{}}", token);
        client_say(a, "{'id':3,'ping':{}}");
        answer_check(true);
        answer_attach(next_request(), NULL, 0);
        assert_non_null(client_hear(a));
        assert_hears(a, "{'id':2,'ping':{}}");
        assert_hears(a, "{'id':3,'ping':{}}");
        assert_hears_nothing(a);
}

static void test_too_much_behind_connect(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900);
        WebSocket *a = client_open();

        client_say(a, "{'id':1,'connect':{'token':'%s'}}", token);
        for (unsigned i = 2; i < 250; i++) /* 4 KiB are not enough for these */
                client_say(a, "{'id':%u,'ping':{}}", i);
        assert_closed(a, 3501);
        answer_check(true);
}

static void test_gone_while_connecting(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 900), *id = NULL;

        WebSocket *a = client_open();
        client_say(a, "{'id':1,'connect':{'token':'%s'}}", token);
        client_gone(a);
        answer_check(true);
        assert_null(next_request());

        a = client_open();
        client_say(a, "{'id':1,'connect':{'token':'%s'}}", token);
        answer_check(true);
        id = strdup(client_id(a));
        FakeRequest *request = next_request();
        client_gone(a);
        assert_detaches(id); /* behind the attach, which it cannot overtake */
        answer_attach(request, (FakeSubscription[]){{"c1", "e1", 7}}, 1);
        assert_null(channel_find(fake_role, "c1"));
}

/* --- what is not the protocol --- */

static void test_bad_requests(void **state) {
        static const char *const before[] = {
                "nonsense",
                "{}",
                "{'id':1,'ping':{}}",
                "{'connect':{}}",
                "{'id':1,'rpc':{'method':'user.me'}}",
        };
        static const char *const after[] = {
                "nonsense",
                "[]",
                "{'rpc':{'method':'user.me'}}",
                "{'id':0,'ping':{}}",
                "{'id':2,'connect':{'token':'x'}}",
        };
        FOREACH_ARRAY(text, before, ELEMENTSOF(before)) {
                WebSocket *a = client_open();
                client_say(a, "%s", *text);
                assert_closed(a, 3501);
                client_say(a, "{'id':1,'ping':{}}"); /* nothing more is said to it */
                assert_hears_nothing(a);
        }
        FOREACH_ARRAY(text, after, ELEMENTSOF(after)) {
                WebSocket *a = client_connected("ann", "s1", "c1", 0);
                client_say(a, "{'id':9,'ping':{}}\n%s\n{'id':10,'ping':{}}", *text);
                assert_hears(a, "{'id':9,'ping':{}}");
                assert_hears_nothing(a);
                assert_closed(a, 3501);
                assert_detaches(client_id(a));
        }
}

static void test_framing_does_not_change(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        client_send(a, "\x04\x08\x01\x5a\x00", 5, true);
        assert_closed(a, 3501);
}

static void test_protobuf_framing(void **state) {
        WebSocket *a = client_open();
        _cleanup_free_ char *token = make_token("ann", "s1", 900);
        Client__ConnectRequest connect = CLIENT__CONNECT_REQUEST__INIT;
        Client__Command command = CLIENT__COMMAND__INIT;
        uint8_t frame[1024];

        connect.token = token;
        command.id = 1;
        command.method_case = CLIENT__COMMAND__METHOD_CONNECT;
        command.connect = &connect;
        size_t size = client__command__get_packed_size(&command);
        assert_in_range(size, 128, 1000);
        frame[0] = (uint8_t) (size & 0x7f) | 0x80;
        frame[1] = (uint8_t) (size >> 7);
        client__command__pack(&command, frame + 2);
        client_send(a, frame, size + 2, true);
        answer_check(true);
        answer_attach(next_request(), (FakeSubscription[]){{"c1", "e1", 7}}, 1);
        Bytes *bytes = client_take(a);
        assert_non_null(bytes);
        Client__Reply *reply = client__reply__unpack(NULL, bytes->size - 1, bytes->data + 1);
        assert_non_null(reply);
        assert_int_equal(reply->connect->n_subs, 1);
        client__reply__free_unpacked(reply, NULL);
        bytes_unref(bytes);

        push_message("c1", 8);
        bytes = client_take(a);
        assert_non_null(bytes);
        reply = client__reply__unpack(NULL, bytes->size - 1, bytes->data + 1);
        assert_non_null(reply);
        assert_int_equal(reply->push->pub->offset, 8);
        assert_memory_equal(reply->push->pub->data.data, "{\"message\":{", 12);
        client__reply__free_unpacked(reply, NULL);
        bytes_unref(bytes);
}

/* --- rpc and publish --- */

static void test_rpc(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);
        Sc__SendResponse response = SC__SEND_RESPONSE__INIT;

        client_say(
                a, "{'id':2,'rpc':{'method':'message.send','data':{'conversation':'c1','text':'hello'}}}");
        Call *call = next_call("message.send");
        Sc__SendRequest *request = (Sc__SendRequest *) call->request;
        assert_string_equal(request->conversation, "c1");
        assert_string_equal(request->text, "hello");
        assert_string_equal(call->caller.user, "ann");
        assert_string_equal(call->caller.session, "s1");
        assert_string_equal(call->caller.device, "phone");
        assert_string_equal(call->caller.client, client_id(a));
        assert_string_equal(call->address, "192.0.2.1");
        assert_hears_nothing(a);
        response.conversation = (char *) "c1";
        response.seq = 3;
        call_return(call, &response.base);
        assert_hears(a, "{'id':2,'rpc':{'data':{'conversation':'c1','seq':3}}}");
}

static void test_publish(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);
        Sc__SendResponse response = SC__SEND_RESPONSE__INIT;

        client_say(a, "{'id':2,'publish':{'channel':'c1','data':{'text':'hello','client_msg_id':'m1'}}}");
        Call *call = next_call("message.send");
        Sc__SendRequest *request = (Sc__SendRequest *) call->request;
        assert_string_equal(request->conversation, "c1");
        assert_string_equal(request->client_msg_id, "m1");
        assert_hears_nothing(a); /* answered after the commit only */
        call_return(call, &response.base);
        assert_hears(a, "{'id':2,'publish':{}}");
        client_say(a, "{'id':3,'publish':{'channel':'c2','data':{'conversation':'c1','text':'x'}}}");
        call = next_call("message.send");
        assert_string_equal(((Sc__SendRequest *) call->request)->conversation, "c2");
        call_fail(call, ERROR_NOT_A_MEMBER, "%s", "");
        assert_error(a, 3, 103, "not_a_member");
}

static void test_traceparent_is_taken_out(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        client_say(a, "{'id':2,'rpc':{'method':'user.me','data':{'traceparent':"
                      "'00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00'}}}");
        Call *call = next_call("user.me");
        assert_int_equal(call->trace.id[0], 0x4b);
        assert_int_equal(call->trace.id[15], 0x36);
        call_fail(call, ERROR_INTERNAL, "%s", "");
        assert_error(a, 2, 100, "internal");
        client_say(a, "{'id':3,'publish':{'channel':'c1','data':{'text':'x','traceparent':'nonsense'}}}");
        call = next_call("message.send");
        call_fail(call, ERROR_STORAGE_FULL, "%s", "");
        assert_hears(a, "{}"); /* test-order.c says why */
        assert_error(a, 3, 1005, "storage_full");
}

static void test_rpc_refused(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        client_say(a, "{'id':2,'rpc':{'method':'no.such'}}");
        assert_error(a, 2, 104, "method_not_found");
        client_say(a, "{'id':3,'rpc':{'method':'gateway.attach'}}");
        assert_error(a, 3, 104, "method_not_found");
        client_say(a, "{'id':4,'rpc':{'method':'auth.login','data':{'username':'ann','password':'x'}}}");
        assert_error(a, 4, 104, "method_not_found");
        client_say(a, "{'id':5,'rpc':{'method':'user.me','data':[1]}}");
        assert_error(a, 5, 107, "invalid_argument: data");
        client_say(a, "{'id':6,'rpc':{'method':'message.send','data':{'text':7}}}");
        assert_error(a, 6, 107, "invalid_argument: text");
        client_say(a, "{'id':7,'publish':{'channel':'c1','data':'text'}}");
        assert_error(a, 7, 107, "invalid_argument: data");
        client_say(a, "{'id':8,'publish':{'channel':'c1'}}");
        assert_error(a, 8, 107, "invalid_argument");
        client_say(a, "{'id':9,'rpc':{'method':'user.me','data':null}}");
        call_fail(next_call("user.me"), ERROR_TIMEOUT, "%s", "");
        assert_error(a, 9, 1004, "timeout");
        assert_true(no_call());
        assert_closed(a, 0);
}

static void test_answers_of_one_frame_come_together(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        client_say(a, "{'id':2,'ping':{}}\n{'id':3,'ping':{}}");
        Bytes *frame = client_take(a);
        assert_memory_equal(frame->data, "{\"id\":2,\"ping\":{}}\n{\"id\":3,\"ping\":{}}", 37);
        bytes_unref(frame);
        assert_hears_nothing(a);
}

static void test_gone_before_the_answer(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);
        Sc__SendResponse response = SC__SEND_RESPONSE__INIT;

        client_say(a, "{'id':2,'publish':{'channel':'c1','data':{'text':'x'}}}");
        Call *call = next_call("message.send");
        client_gone(a);
        call_return(call, &response.base);
        /* One that was not answered by then is cancelled. */
        a = client_connected("ann", "s1", "c1", 0);
        client_say(a, "{'id':2,'publish':{'channel':'c1','data':{'text':'x'}}}");
        client_gone(a);
        assert_true(no_call());
}

/* --- history and presence --- */

static Sc__HistoryRequest *history_call(WebSocket *a, const char *command, Call **ret) {
        client_say(a, "{'id':2,'history':%s}", command);
        *ret = next_call("message.history");
        return (Sc__HistoryRequest *) (*ret)->request;
}

static void answer_history(Call *call) {
        Sc__HistoryResponse response = SC__HISTORY_RESPONSE__INIT;
        Sc__Message messages[2], *pointers[] = {&messages[0], &messages[1]};

        for (unsigned i = 0; i < 2; i++) {
                sc__message__init(&messages[i]);
                messages[i].conversation = (char *) "c1";
                messages[i].seq = i + 5;
                messages[i].sender = (char *) "bo";
                messages[i].body_case = SC__MESSAGE__BODY_TEXT;
                messages[i].text = (char *) "hi";
        }
        response.messages = pointers;
        response.n_messages = 2;
        response.epoch = (char *) "e1";
        response.last_seq = 9;
        call_return(call, &response.base);
}

static void test_history(void **state) {
        _cleanup_free_ char *five = publication("c1", 5), *six = publication("c1", 6);
        WebSocket *a = client_connected("ann", "s1", "c1", 0);
        Sc__HistoryRequest *request;
        Call *call;

        request = history_call(a, "{'channel':'c1','limit':2,'since':{'offset':4,'epoch':'e1'}}", &call);
        assert_string_equal(request->conversation, "c1");
        assert_int_equal(request->after, 4);
        assert_int_equal(request->limit, 2);
        answer_history(call);
        assert_hears(a, "{'id':2,'history':{'publications':[%s,%s],'epoch':'e1','offset':9}}", five, six);

        request = history_call(a, "{'channel':'c1','limit':2,'since':{'offset':7},'reverse':true}", &call);
        assert_int_equal(request->before, 7);
        assert_int_equal(request->after, 0);
        answer_history(call);
        assert_hears(a, "{'id':2,'history':{'publications':[%s,%s],'epoch':'e1','offset':9}}", six, five);

        request = history_call(a, "{'channel':'c1','limit':5000}", &call);
        assert_true(request->oldest);
        assert_int_equal(request->limit, 1000);
        answer_history(call);
        assert_non_null(client_hear(a));

        request = history_call(a, "{'channel':'c1','limit':-1,'reverse':true}", &call);
        assert_false(request->oldest);
        assert_int_equal(request->before, 0);
        assert_int_equal(request->limit, 1000);
        answer_history(call);
        assert_non_null(client_hear(a));

        history_call(a, "{'channel':'c1'}", &call); /* the position only */
        answer_history(call);
        assert_hears(a, "{'id':2,'history':{'epoch':'e1','offset':9}}");

        history_call(a, "{'channel':'c1','limit':3,'since':{'offset':0},'reverse':true}", &call);
        answer_history(call);
        assert_hears(a, "{'id':2,'history':{'epoch':'e1','offset':9}}");

        history_call(a, "{'channel':'c1','limit':2,'since':{'offset':4,'epoch':'other'}}", &call);
        answer_history(call);
        assert_error(a, 2, 112, "unrecoverable_position");
}

static void answer_presence(Call *call) {
        Sc__PresenceResponse response = SC__PRESENCE_RESPONSE__INIT;
        Sc__PresenceResponse__Client clients[3], *pointers[3];

        for (unsigned i = 0; i < 3; i++) {
                sc__presence_response__client__init(&clients[i]);
                pointers[i] = &clients[i];
        }
        clients[0].client = (char *) "x1";
        clients[0].user = (char *) "ann";
        clients[0].device = (char *) "my \"phone\"";
        clients[1].client = (char *) "x2";
        clients[1].user = (char *) "bo";
        clients[2].client = (char *) "x3";
        clients[2].user = (char *) "ann";
        response.clients = pointers;
        response.n_clients = 3;
        call_return(call, &response.base);
}

static void test_presence(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        client_say(a, "{'id':2,'presence':{'channel':'c1'}}");
        answer_presence(next_call("conversation.presence"));
        const char *heard = client_hear(a);
        assert_string_equal(heard,
                "{\"id\":2,\"presence\":{\"presence\":{"
                "\"x1\":{\"user\":\"ann\",\"client\":\"x1\",\"conn_info\":{\"device\":\"my "
                "\\\"phone\\\"\"}},"
                "\"x2\":{\"user\":\"bo\",\"client\":\"x2\"},\"x3\":{\"user\":\"ann\",\"client\":\"x3\"}}}}");
        client_say(a, "{'id':3,'presence_stats':{'channel':'c1'}}");
        answer_presence(next_call("conversation.presence"));
        assert_hears(a, "{'id':3,'presence_stats':{'num_clients':3,'num_users':2}}");
        client_say(a, "{'id':4,'presence':{}}");
        assert_error(a, 4, 107, "invalid_argument");
        client_say(a, "{'id':5,'presence':{'channel':'c9'}}");
        call_fail(next_call("conversation.presence"), ERROR_NOT_A_MEMBER, "%s", "");
        assert_error(a, 5, 103, "not_a_member");
}

/* --- the other commands --- */

static void test_subscriptions_are_the_servers(void **state) {
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        client_say(a, "{'id':2,'subscribe':{'channel':'c1'}}");
        assert_error(a, 2, 105, "already_subscribed");
        client_say(a, "{'id':3,'subscribe':{'channel':'c2'}}");
        assert_error(a, 3, 103, "not_a_member");
        client_say(a, "{'id':4,'unsubscribe':{'channel':'c1'}}");
        assert_error(a, 4, 108, "not_available");
        client_say(a, "{'id':5,'unsubscribe':{'channel':'c2'}}");
        assert_hears(a, "{'id':5,'unsubscribe':{}}");
        client_say(a, "{'id':6,'sub_refresh':{'channel':'c1','token':'x'}}");
        assert_error(a, 6, 108, "not_available");
        client_say(a, "{'send':{'data':{}}}");
        assert_hears_nothing(a);
        client_say(a, "{'id':7,'send':{'data':{}}}");
        assert_error(a, 7, 108, "not_available");
        client_say(a, "{'id':8,'from_the_future':{}}");
        assert_error(a, 8, 104, "method_not_found");
        assert_closed(a, 0);
}

static void test_refresh(void **state) {
        _cleanup_free_ char *token = make_token("ann", "s1", 1800), *other = make_token("bo", "s1", 900),
                            *stolen = make_token("ann", "s2", 900), *expired = make_token("ann", "s1", -1);
        WebSocket *a = client_connected("ann", "s1", "c1", 0);

        client_say(a, "{'id':2,'refresh':{'token':'%s'}}", token);
        client_say(a, "{'id':3,'refresh':{'token':'%s'}}", token);
        assert_error(a, 3, 111, "rate_limited");
        answer_check(true);
        assert_hears(a,
                "{'id':2,'refresh':{'client':'%s','version':'Stonechat %s','expires':true,'ttl':1800}}",
                client_id(a), STONECHAT_VERSION);
        client_say(a, "{'id':4,'refresh':{'token':'%s'}}", expired);
        assert_error(a, 4, 109, "token_expired");
        client_say(a, "{'id':5,'refresh':{}}");
        assert_error(a, 5, 107, "invalid_argument");
        client_say(a, "{'id':6,'refresh':{'token':'%s'}}", token);
        fail_check(ERROR_UNAVAILABLE);
        assert_error(a, 6, 100, "unavailable");
        assert_closed(a, 0);
        client_say(a, "{'id':7,'refresh':{'token':'%s'}}", token);
        answer_check(false);
        assert_closed(a, 3500);
        a = client_connected("ann", "s1", "c1", 0);
        client_say(a, "{'id':2,'refresh':{'token':'%s'}}", other);
        assert_closed(a, 3500);
        a = client_connected("ann", "s1", "c1", 0);
        client_say(a, "{'id':2,'refresh':{'token':'%s'}}", stolen);
        assert_closed(a, 3500);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                T(test_connect),
                T(test_recovery),
                T(test_very_many_conversations),
                T(test_too_many_conversations),
                T(test_size_of_positions),
                T(test_connect_refused),
                T(test_connect_fails_and_is_repeated),
                T(test_connection_limit),
                T(test_commands_behind_connect_wait),
                T(test_too_much_behind_connect),
                T(test_gone_while_connecting),
                T(test_bad_requests),
                T(test_framing_does_not_change),
                T(test_protobuf_framing),
                T(test_rpc),
                T(test_publish),
                T(test_traceparent_is_taken_out),
                T(test_rpc_refused),
                T(test_answers_of_one_frame_come_together),
                T(test_gone_before_the_answer),
                T(test_history),
                T(test_presence),
                T(test_subscriptions_are_the_servers),
                T(test_refresh),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
