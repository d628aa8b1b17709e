/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the above */
#include <ftw.h>
#include <cmocka.h>

#include "util/string-util.h"

extern const BackendClass store_backend_class; /* SQLite, which is linked into the test */

#define ARENA_LIMIT (16U << 20)

uint64_t fixture_seed = 1;

static ProtobufCMessage *copy(const ProtobufCMessage *message) {
        size_t size = protobuf_c_message_get_packed_size(message);
        uint8_t *packed = malloc(size + 1);

        protobuf_c_message_pack(message, packed);
        ProtobufCMessage *result = protobuf_c_message_unpack(message->descriptor, NULL, size, packed);
        free(packed);
        assert_non_null(result);
        return result;
}

/* --- the ports --- */

static void push(void *gateway, const char *method, const Trace *trace, const void *payload, size_t size,
        void *userdata) {
        Fixture *f = userdata;
        const ProtobufCMessageDescriptor *descriptor = streq(method, "deliver") ? &sc__deliver__descriptor
                                                       : streq(method, "membership")
                                                               ? &sc__membership_changed__descriptor
                                                               : &sc__kick__descriptor;

        assert_true(f->n_pushes < MAX_PUSHES);
        f->pushes[f->n_pushes++] =
                (Push){gateway, method, protobuf_c_message_unpack(descriptor, NULL, size, payload)};
}

static int check_user(Call *call, const char *user, void *userdata) {
        Fixture *f = userdata;

        if (f->hold_lookups) {
                f->n_held++;
                int r = fiber_queue_wait(&f->held, UINT64_MAX);
                if (r < 0)
                        return r;
        }
        return startswith(user, "nobody") ? call_refuse(call, ERROR_USER_NOT_FOUND, "user") : 0;
}

static void changed(void *userdata) {
        ((Fixture *) userdata)->n_changed++;
}

/* --- set up, tear down --- */

static void report(const char *problem, void *userdata) {
        fail_msg("%s", problem);
}

static Store *open_store(Fixture *f) {
        Store *store;

        if (f->model)
                model_use(f->model, "model");
        assert_int_equal(store_open(&store, f->event,
                                 &(StoreConfig){
                                         .kind = f->model ? "model" : "sqlite",
                                         .name = "conversations",
                                         .directory = f->directory,
                                         .records = group_records,
                                         .n_readers = 2,
                                         .batch_operations = 256,
                                         .max_queued = 65536,
                                 }),
                0);
        return store;
}

void fixture_open_role(Fixture *f) {
        const GroupPorts ports = {.push = push, .check_user = check_user, .changed = changed, .userdata = f};

        /* All methods are our own: it needs no routes. */
        assert_int_equal(dispatcher_new(&f->dispatcher, f->event, NULL, group_methods, 0), 0);
        assert_int_equal(
                group_role_new(&f->role, f->event, f->conf, open_store(f), f->dispatcher, &ports), 0);
        dispatcher_set_role(f->dispatcher, f->role);
}

void fixture_close_role(Fixture *f) {
        dispatcher_stop_serving(f->dispatcher);
        f->role = group_role_free(f->role);
        f->dispatcher = dispatcher_free(f->dispatcher);
}

void fixture_restart(Fixture *f) {
        fixture_close_role(f);
        fixture_open_role(f);
}

void fixture_crash(Fixture *f) {
        model_crash(f->model);
        fixture_restart(f);
}

static int setup(void **state, bool model) {
        static const char *const no_directories[] = {NULL};
        Fixture *f = new0(Fixture, 1);

        snprintf(f->directory, sizeof(f->directory), "/tmp/test-group-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        assert_int_equal(conf_load(&(ConfSource){.dirs = no_directories}, report, NULL, &f->conf), 0);
        assert_true(sd_event_new(&f->event) >= 0);
        store_register_backend(&store_backend_class);
        if (model)
                f->model = model_new(fixture_seed);
        fixture_open_role(f);
        *state = f;
        return 0;
}

int fixture_setup(void **state) {
        return setup(state, false);
}

int fixture_setup_model(void **state) {
        return setup(state, true);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

int fixture_teardown(void **state) {
        Fixture *f = *state;

        if (f->role)
                fixture_close_role(f);
        model_free(f->model);
        for (size_t i = 0; i < f->n_pushes; i++)
                protobuf_c_message_free_unpacked(f->pushes[i].message, NULL);
        for (size_t i = 0; i < f->n_answers; i++) {
                assert_true(f->answers[i]->done);
                protobuf_c_message_free_unpacked(f->answers[i]->response, NULL);
                free(f->answers[i]);
        }
        sd_event_unref(f->event);
        conf_free(f->conf);
        nftw(f->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
        free(f);
        return 0;
}

/* --- calls --- */

static void on_done(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        Answer *answer = userdata;

        assert_false(answer->done);
        answer->done = true;
        answer->call = NULL;
        answer->n_pushes = answer->fixture->n_pushes;
        answer->code = code;
        snprintf(answer->detail, sizeof(answer->detail), "%s", strempty(detail));
        if (response)
                answer->response = copy(response);
}

static Call *new_call(Fixture *f, const MethodInfo *method, const void *request, Answer *answer) {
        Call *call = call_new(method, ARENA_LIMIT, on_done, answer);
        size_t size = protobuf_c_message_get_packed_size(request);
        uint8_t *packed = malloc(size + 1);

        assert_true(f->n_answers < ELEMENTSOF(f->answers));
        f->answers[f->n_answers++] = answer;
        answer->fixture = f;
        protobuf_c_message_pack(request, packed);
        assert_int_equal(
                arena_unpack(&call->arena, method->request->descriptor, packed, size, &call->request), 0);
        free(packed);
        call->internal = method->access == ACCESS_INTERNAL;
        return call;
}

Answer *begin(Fixture *f, const MethodInfo *method, const char *user, void *gateway, const void *request) {
        return begin_ordered(f, method, user, gateway, 0, request);
}

Answer *begin_ordered(Fixture *f, const MethodInfo *method, const char *user, void *gateway, uint64_t order,
        const void *request) {
        Answer *answer = new0(Answer, 1);
        Call *call = new_call(f, method, request, answer);

        call->caller.user = arena_strdup(&call->arena, user);
        call->origin = gateway;
        call->order = order;
        answer->call = call;
        dispatcher_dispatch(f->dispatcher, call);
        return answer;
}

Answer *begin_intent(
        Fixture *f, const MethodInfo *method, const char *source, uint64_t number, const void *request) {
        Answer *answer = new0(Answer, 1);
        Call *call = new_call(f, method, request, answer);

        call->intent.source = arena_strdup(&call->arena, source);
        call->intent.number = number;
        /* Both methods have the user in front. */
        call->intent.target =
                arena_printf(&call->arena, "#%s", ((const Sc__InboxJoinRequest *) request)->user);
        dispatcher_dispatch(f->dispatcher, call);
        return answer;
}

Answer *deliver_intent(
        Fixture *f, const MethodInfo *method, const char *source, uint64_t number, const void *request) {
        Answer *answer = begin_intent(f, method, source, number, request);

        finish(f, answer);
        return answer;
}

void finish(Fixture *f, const Answer *answer) {
        for (unsigned i = 0; !answer->done && i < 10000; i++)
                assert_true(sd_event_run(f->event, 1000 * 1000) >= 0);
        assert_true(answer->done);
}

uint64_t statistic(Fixture *f, const char *name) {
        BusStatistic statistics[64];
        size_t n = group_role_statistics(f->role, statistics, ELEMENTSOF(statistics));

        for (size_t i = 0; i < n; i++)
                if (streq(statistics[i].name, name))
                        return statistics[i].value;
        fail_msg("there is no statistic %s", name);
        return 0;
}

static bool is_busy(Fixture *f) {
        FiberPoolStatistics fibers;

        fiber_pool_get_statistics(dispatcher_fibers(f->dispatcher), &fibers);
        return fibers.n_running + fibers.n_queued > 0 || statistic(f, "store_queued") > 0 ||
               statistic(f, "intents_pending") > 0;
}

void settle(Fixture *f) {
        for (unsigned i = 0; is_busy(f); i++) {
                assert_true(i < 100000);
                assert_true(sd_event_run(f->event, 1000 * 1000) >= 0);
        }
}

void wait_for(Fixture *f, const char *name, uint64_t value) {
        for (unsigned i = 0; statistic(f, name) < value; i++) {
                assert_true(i < 100000);
                assert_true(sd_event_run(f->event, 1000 * 1000) >= 0);
        }
}

uint64_t n_reads(Fixture *f) {
        return statistic(f, "store_reads");
}

uint64_t n_writes(Fixture *f) {
        return statistic(f, "store_writes");
}

void assert_no_pins(Fixture *f) {
        size_t limit = f->conf->group_cache_conversations;
        Conversation *conversation;

        /* Whatever is not pinned goes when the next one does. */
        f->conf->group_cache_conversations = 0;
        conversation = conversations_get(f->role->conversations, "of-the-test");
        conversation->state = CONVERSATION_LOADED;
        conversation_unpin(conversation);
        assert_int_equal(conversations_n(f->role->conversations), 0);
        f->conf->group_cache_conversations = limit;
}

void *ask(Fixture *f, const MethodInfo *method, const char *user, const void *request) {
        Answer *answer = begin(f, method, user, NULL, request);

        finish(f, answer);
        if (answer->code != ERROR_NONE)
                fail_msg("%s: %s: %s", method->name, schema_error(answer->code)->name, answer->detail);
        return answer->response;
}

void ask_refused(
        Fixture *f, const MethodInfo *method, const char *user, const void *request, Sc__ErrorCode code) {
        Answer *answer = begin(f, method, user, NULL, request);

        finish(f, answer);
        assert_string_equal(schema_error(answer->code)->name, schema_error(code)->name);
}

/* --- shorthands --- */

const char *open_direct(Fixture *f, const char *user, const char *other) {
        Sc__OpenDirectRequest request = SC__OPEN_DIRECT_REQUEST__INIT;

        request.user = (char *) other;
        const Sc__ConversationView *view = ask(f, &method_conversation_open_direct, user, &request);
        assert_non_null(view->conversation);
        return view->conversation->id;
}

Answer *begin_attach(Fixture *f, void *gateway, const char *client, const char *user, const char *session) {
        Sc__AttachRequest__Client one = SC__ATTACH_REQUEST__CLIENT__INIT;
        Sc__AttachRequest request = SC__ATTACH_REQUEST__INIT;

        one.client = (char *) client;
        one.user = (char *) user;
        one.device = (char *) "phone";
        one.session = (char *) session;
        request.clients = (Sc__AttachRequest__Client *[]){&one};
        request.n_clients = 1;
        return begin(f, &method_gateway_attach, "", gateway, &request);
}

Sc__ErrorCode attach_outcome(const Answer *answer) {
        const Sc__AttachResponse *response = (const Sc__AttachResponse *) answer->response;

        if (answer->code != ERROR_NONE)
                return answer->code;
        assert_int_equal(response->n_results, 1);
        return response->results[0]->error;
}

const Sc__AttachResponse *attach(Fixture *f, void *gateway, const char *client, const char *user) {
        Answer *answer = begin_attach(f, gateway, client, user, "s");

        finish(f, answer);
        assert_int_equal(attach_outcome(answer), ERROR_NONE);
        return (const Sc__AttachResponse *) answer->response;
}

const Sc__RecoverResponse *recover(Fixture *f, Sc__Position **positions, size_t n) {
        Sc__RecoverRequest request = SC__RECOVER_REQUEST__INIT;

        request.positions = positions;
        request.n_positions = n;
        return ask(f, &method_gateway_recover, "", &request);
}

const Sc__Subscription *find_subscription(const Sc__AttachResponse *response, const char *conversation) {
        for (size_t i = 0; i < response->n_subscriptions; i++)
                if (streq(response->subscriptions[i]->conversation, conversation))
                        return response->subscriptions[i];
        return NULL;
}

Sc__SendRequest text_request(const char *conversation, const char *client_msg_id, const char *text) {
        Sc__SendRequest request = SC__SEND_REQUEST__INIT;

        request.conversation = (char *) conversation;
        request.client_msg_id = (char *) client_msg_id;
        request.body_case = SC__SEND_REQUEST__BODY_TEXT;
        request.text = (char *) text;
        return request;
}

const Sc__SendResponse *send_text(Fixture *f, const char *user, const char *conversation,
        const char *client_msg_id, const char *text) {
        Sc__SendRequest request = text_request(conversation, client_msg_id, text);
        return ask(f, &method_message_send, user, &request);
}

size_t delivered(const Fixture *f, const void *gateway, const char *conversation, const Sc__Message **ret) {
        size_t n = 0;

        for (size_t i = 0; i < f->n_pushes; i++) {
                const Sc__Deliver *deliver = (const Sc__Deliver *) f->pushes[i].message;

                if (f->pushes[i].gateway != gateway || !streq(f->pushes[i].method, "deliver") ||
                        !streq(deliver->conversation, conversation) ||
                        deliver->update->what_case != SC__UPDATE__WHAT_MESSAGE)
                        continue;
                ret[n++] = deliver->update->message;
        }
        return n;
}

const Sc__ConversationView *get(Fixture *f, const char *user, const char *conversation) {
        Sc__ConversationGetRequest request = SC__CONVERSATION_GET_REQUEST__INIT;

        request.conversation = (char *) conversation;
        return ask(f, &method_conversation_get, user, &request);
}

size_t n_pushed(const Fixture *f, const void *gateway, const char *method) {
        size_t n = 0;

        for (size_t i = 0; i < f->n_pushes; i++)
                n += f->pushes[i].gateway == gateway && streq(f->pushes[i].method, method);
        return n;
}
