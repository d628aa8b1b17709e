/* SPDX-License-Identifier: Apache-2.0 */

/* The REST surface with HTTP cut off: requests are made, and answers taken, by the functions below instead
 * of the web layer. */

#include "fixture.h"

#include <stdio.h>
#include <time.h>

#include "api/rest/rest.h"
#include "proto/json.h"

struct HttpRequest {
        const char *verb, *path, *query, *body, *content_type, *authorization, *origin, *traceparent,
                *forwarded_for, *if_none_match, *address;
        void *userdata;
        /* the answer */
        bool answered, dropped_ahead;
        unsigned status;
        char type[64];
        char headers[2048]; /* "name: value" lines */
        char content[65536];
};

static HttpRequest http;

const char *http_request_verb(const HttpRequest *request) {
        return request->verb;
}

const char *http_request_path(const HttpRequest *request) {
        return request->path;
}

const char *http_request_address(const HttpRequest *request) {
        return request->address ?: "192.0.2.1";
}

const char *http_request_body(const HttpRequest *request, size_t *ret_size) {
        *ret_size = strlen(strempty(request->body));
        return strempty(request->body);
}

const char *http_request_header(const HttpRequest *request, const char *name) {
        const struct {
                const char *name, *value;
        } headers[] = {
                {"authorization", request->authorization},
                {"content-type", request->content_type},
                {"if-none-match", request->if_none_match},
                {"origin", request->origin},
                {"traceparent", request->traceparent},
                {"x-forwarded-for", request->forwarded_for},
        };

        FOREACH_ARRAY(header, headers, ELEMENTSOF(headers))
                if (streq(header->name, name))
                        return header->value;
        fail_msg("unexpected header %s", name);
        return NULL;
}

/* One parameter is enough here: "name=value". */
int http_request_query(const HttpRequest *request,
        int (*parameter)(const char *name, const char *value, void *userdata), void *userdata) {
        char name[64];

        if (!request->query)
                return 0;
        const char *equals = strchr(request->query, '=');
        snprintf(name, sizeof(name), "%.*s", (int) (equals - request->query), request->query);
        return parameter(name, equals + 1, userdata);
}

void http_request_set_userdata(HttpRequest *request, void *userdata) {
        request->userdata = userdata;
}

void *http_request_get_userdata(const HttpRequest *request) {
        return request->userdata;
}

void http_request_drop_ahead(HttpRequest *request) {
        assert_false(request->answered);
        request->dropped_ahead = true;
}

void http_respond(HttpRequest *request, unsigned status, const char *content_type, const HttpHeader *headers,
        size_t n_headers, const void *body, size_t size) {
        assert_false(request->answered);
        assert_true(size < sizeof(request->content));
        request->answered = true;
        request->status = status;
        snprintf(request->type, sizeof(request->type), "%s", strempty(content_type));
        FOREACH_ARRAY(header, headers, n_headers) {
                size_t n = strlen(request->headers);
                snprintf(request->headers + n, sizeof(request->headers) - n, "%s: %s\n", header->name,
                        header->value);
        }
        if (size > 0)
                memcpy(request->content, body, size);
        request->content[size] = 0;
}

void http_respond_static(HttpRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, const void *body, size_t size) {
        http_respond(request, status, content_type, headers, n_headers, body, size);
}

void http_respond_buffer(HttpRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, Buffer *body) {
        _cleanup_buffer_ Buffer taken = TAKE_GENERIC(*body, (Buffer){});

        http_respond(request, status, content_type, headers, n_headers, taken.data, taken.size);
}

void http_request_free_body(HttpRequest *request) {
        request->body = NULL;
}

/* --- the parts around: the fixture's, and more of the group role --- */

static Health *health;
static Rest *rest;
static Call *held_call; /* of a request that asks for it */
static unsigned n_lists_begun, n_lists_cancelled;

static void answer_send(Call *call, const ProtobufCMessage *message) {
        const Sc__SendRequest *request = (const Sc__SendRequest *) message;
        Sc__SendResponse response = SC__SEND_RESPONSE__INIT;

        assert_string_not_equal(call->caller.user, "");
        if (streq(request->text, "hold")) {
                held_call = call;
                return;
        }
        if (streq(request->text, "busy")) {
                call_fail(call, ERROR_OVERLOADED, "%s", "");
                return;
        }
        if (streq(request->text, "refuse")) {
                call_fail(call, ERROR_NOT_A_MEMBER, "conversation: \"%s\"", request->conversation);
                return;
        }
        response.conversation = request->conversation;
        response.seq = 7;
        call_return(call, &response.base);
}

/* `after` is how long it takes. */
static int answer_list(Call *call, const ProtobufCMessage *message, ProtobufCMessage *response) {
        const Sc__ConversationListRequest *request = (const Sc__ConversationListRequest *) message;

        if (streq(request->after, "long")) {
                n_lists_begun++;
                int r = fiber_sleep(60 * USEC_PER_SEC);
                n_lists_cancelled += r == -ECANCELED;
                return r;
        }
        char *limit = arena_printf(&call->arena, "%u", request->limit);
        ((Sc__ConversationListResponse *) response)->next_after = limit;
        return limit ? 0 : -ENOMEM;
}

static int setup(void **state) {
        static const MethodBinding group[] = {
                {.method = &method_message_send, .hot_handler = answer_send},
                {.method = &method_conversation_list, .handler = answer_list},
                {},
        };

        n_lists_begun = n_lists_cancelled = 0;
        if (fixture_setup_with(group) != 0 || health_new(&health, &fixture.api) < 0)
                return -1;
        return rest_new(&rest, &fixture.api, health);
}

static int teardown(void **state) {
        fixture_stop();
        health = health_free(health);
        rest = rest_free(rest);
        return fixture_teardown(state);
}

/* --- asking --- */

static void begin(HttpRequest request) {
        http = request;
        rest_on_request(&http, rest);
}

static HttpRequest *ask(HttpRequest request) {
        begin(request);
        while (!http.answered)
                fixture_run_once();
        assert_null(http.userdata);
        return &http;
}

#define ASK(...) ask((HttpRequest){__VA_ARGS__})
#define JSON .content_type = "application/json"

static bool answer_has_header(const char *line) {
        return strstr(http.headers, line) != NULL;
}

/* A member of the answer, which must be a JSON object; static memory. */
static const char *member(const char *name) {
        static char value[2048];
        JsonError error;
        json_t *json;

        assert_int_equal(json_parse(http.content, strlen(http.content), &json, &error), 0);
        const char *text = json_string_value(json_object_get(json, name));
        snprintf(value, sizeof(value), "%s", strempty(text));
        json_decref(json);
        return value;
}

static void assert_problem(unsigned status, const char *code) {
        assert_int_equal(http.status, status);
        assert_string_equal(http.type, "application/problem+json");
        assert_string_equal(member("code"), code);
        assert_int_equal(strlen(member("trace_id")), 32);
        assert_non_null(startswith(member("type"), "urn:stonechat:error:"));
}

/* Registers, signs in, and answers the Authorization header; static memory. */
static const char *sign_in(void) {
        static char authorization[2048];

        ASK(.verb = "POST", .path = "/v1/auth/register", JSON,
                .body = "{\"username\":\"ann\",\"password\":\"correct horse\"}");
        ASK(.verb = "POST", .path = "/v1/auth/login", JSON,
                .body = "{\"username\":\"ann\",\"password\":\"correct horse\",\"device\":\"phone\"}");
        assert_int_equal(http.status, 200);
        snprintf(authorization, sizeof(authorization), "Bearer %s", member("access_token"));
        return authorization;
}

/* --- tests --- */

static void test_pages(void **state) {
        assert_int_equal(ASK(.verb = "GET", .path = "/")->status, 200);
        ASK(.verb = "GET", .path = "/openapi.json");
        assert_int_equal(http.status, 200);
        assert_string_equal(member("openapi"), "3.1.0");
        const char *etag = strstr(http.headers, "etag: ");
        assert_non_null(etag);
        char known[64];
        snprintf(known, sizeof(known), "%.*s", (int) strcspn(etag + 6, "\n"), etag + 6);
        ASK(.verb = "GET", .path = "/openapi.json", .if_none_match = known);
        assert_int_equal(http.status, 304);
        assert_string_equal(http.content, "");
        ASK(.verb = "POST", .path = "/openapi.json");
        assert_problem(405, "method_not_allowed");
        assert_true(answer_has_header("allow: GET, HEAD, OPTIONS\n"));
        assert_int_equal(ASK(.verb = "HEAD", .path = "/")->status, 200);
}

static void test_health(void **state) {
        ASK(.verb = "GET", .path = "/healthz");
        assert_int_equal(http.status, 200);
        assert_string_equal(member("status"), "ok");
        fixture.group_away = true;
        ASK(.verb = "GET", .path = "/healthz");
        assert_int_equal(http.status, 503);
        assert_string_equal(member("status"), "unavailable");
        assert_string_equal(member("reason"), "group_unavailable");
        assert_string_equal(member("group"), "unavailable");
        assert_string_equal(member("store"), "ok");
        /* Reading goes on. */
        fixture.group_away = false;
        fixture.group_full = true;
        ASK(.verb = "GET", .path = "/healthz");
        assert_int_equal(http.status, 200);
        assert_string_equal(member("status"), "degraded");
        assert_string_equal(member("reason"), "storage_full");
        assert_string_equal(member("group"), "full");
        fixture.group_full = false;
        store_room_note(fixture.api.room, -ENOSPC);
        ASK(.verb = "GET", .path = "/healthz");
        assert_int_equal(http.status, 200);
        assert_string_equal(member("store"), "full");
        while (store_room_is_full(fixture.api.room))
                fixture_run_once();
        ASK(.verb = "GET", .path = "/healthz");
        assert_string_equal(member("status"), "ok");
}

static void test_headers_of_every_answer(void **state) {
        ASK(.verb = "GET", .path = "/nothing",
                .traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_problem(404, "method_not_found");
        assert_string_equal(member("trace_id"), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_true(answer_has_header("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert_true(answer_has_header("cache-control: no-store\n"));
        assert_true(answer_has_header("x-content-type-options: nosniff\n"));
}

static void test_paths(void **state) {
        const char *authorization = sign_in();

        /* An escaped slash separates nothing. */
        ASK(.verb = "GET", .path = "/v1%2Fusers%2Fme", .authorization = authorization);
        assert_problem(404, "method_not_found");
        ASK(.verb = "GET", .path = "/v1/users%2Fme", .authorization = authorization);
        assert_problem(404, "method_not_found");
        ASK(.verb = "GET", .path = "/v1/users/a%2Fb%252F", .authorization = authorization);
        assert_problem(400, "invalid_argument"); /* no characters of an id */
        /* The literal path is a resource of its own. */
        ASK(.verb = "GET", .path = "/v1/conversations/direct", .authorization = authorization);
        assert_problem(405, "method_not_allowed");
        assert_true(answer_has_header("allow: POST, OPTIONS\n"));
        ASK(.verb = "OPTIONS", .path = "*");
        assert_int_equal(http.status, 204);
        assert_true(answer_has_header("allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\n"));
}

static void test_refusals(void **state) {
        ASK(.verb = "DELETE", .path = "/v1/users/me");
        assert_problem(405, "method_not_allowed");
        assert_true(answer_has_header("allow: GET, HEAD, OPTIONS\n"));
        ASK(.verb = "POST", .path = "/v1/auth/login", .content_type = "text/plain", .body = "{}");
        assert_problem(415, "unsupported_media_type");
        ASK(.verb = "POST", .path = "/v1/auth/login", .body = "{}");
        assert_problem(415, "unsupported_media_type");
        ASK(.verb = "POST", .path = "/v1/auth/login", JSON, .body = "{\"username\":");
        assert_problem(400, "invalid_json");
        ASK(.verb = "POST", .path = "/v1/auth/login", JSON, .body = "[1]");
        assert_int_equal(http.status, 400);
        ASK(.verb = "POST", .path = "/v1/auth/login", JSON, .body = "{\"username\":7,\"password\":\"x\"}");
        assert_problem(400, "invalid_argument");
        ASK(.verb = "POST", .path = "/v1/auth/login", JSON, .body = "{\"username\":\"ann\"}");
        assert_problem(400, "invalid_argument");
        assert_non_null(startswith(member("detail"), "password"));
        ASK(.verb = "POST", .path = "/v1/auth/login"); /* no body at all */
        assert_problem(400, "invalid_argument");
        /* Passwords do not belong into URLs, and are not read there. */
        ASK(.verb = "POST", .path = "/v1/auth/login", .query = "username=ann");
        assert_problem(400, "invalid_argument");
        /* Nothing that is for roles only has a route. */
        ASK(.verb = "POST", .path = "/v1/session/check", JSON, .body = "{}");
        assert_problem(404, "method_not_found");
}

static void test_authentication(void **state) {
        const char *authorization = sign_in();

        ASK(.verb = "GET", .path = "/v1/users/me", .authorization = authorization);
        assert_int_equal(http.status, 200);
        assert_string_equal(http.type, "application/json");
        assert_string_equal(member("username"), "ann");
        ASK(.verb = "GET", .path = "/v1/users/me");
        assert_problem(401, "unauthenticated");
        assert_true(answer_has_header("www-authenticate: Bearer\n"));
        ASK(.verb = "GET", .path = "/v1/users/me", .authorization = "Bearer nonsense");
        assert_problem(401, "unauthenticated");
        assert_true(answer_has_header("www-authenticate: Bearer error=\"invalid_token\"\n"));
        ASK(.verb = "GET", .path = "/v1/users/me", .authorization = "Basic YTpi");
        assert_problem(401, "unauthenticated");
        ASK(.verb = "GET", .path = "/v1/users/me", .authorization = "");
        assert_problem(401, "unauthenticated");
        ASK(.verb = "POST", .path = "/v1/auth/logout", .authorization = authorization);
        assert_int_equal(http.status, 200);
        ASK(.verb = "GET", .path = "/v1/users/me", .authorization = authorization);
        assert_problem(401, "session_revoked");
}

static void test_expired_token(void **state) {
        TokenClaims claims = {.user = "u", .session = "s", .expires_at = time(NULL) - 1};
        _cleanup_free_ char *token = NULL;

        assert_int_equal(token_issue(fixture.api.token_signer, &claims, &token), 0);
        _cleanup_free_ char *authorization = format_string("Bearer %s", token);
        ASK(.verb = "GET", .path = "/v1/users/me", .authorization = authorization);
        assert_problem(401, "token_expired");
}

static void test_methods_of_group(void **state) {
        const char *authorization = sign_in();

        ASK(.verb = "POST", .path = "/v1/conversations/c1/messages", JSON, .authorization = authorization,
                .body = "{\"text\":\"hello\"}");
        assert_int_equal(http.status, 201);
        assert_string_equal(http.content, "{\"conversation\":\"c1\",\"seq\":7}");
        ASK(.verb = "POST", .path = "/v1/conversations/c1/messages", JSON, .authorization = authorization,
                .body = "{\"text\":\"refuse\"}");
        assert_problem(403, "not_a_member");
        assert_string_equal(member("detail"), "conversation: \"c1\"");
        assert_false(http.dropped_ahead);
        /* Messages that were sent ahead must not pass one that will come again. */
        ASK(.verb = "POST", .path = "/v1/conversations/c1/messages", JSON, .authorization = authorization,
                .body = "{\"text\":\"busy\"}");
        assert_problem(503, "overloaded");
        assert_true(http.dropped_ahead);
        /* The body must not contradict the path. */
        ASK(.verb = "POST", .path = "/v1/conversations/c1/messages", JSON, .authorization = authorization,
                .body = "{\"text\":\"hello\",\"conversation\":\"c2\"}");
        assert_problem(400, "invalid_argument");
        ASK(.verb = "GET", .path = "/v1/conversations", .query = "limit=3", .authorization = authorization);
        assert_string_equal(member("next_after"), "3");
        ASK(.verb = "GET", .path = "/v1/conversations", .query = "limit=x", .authorization = authorization);
        assert_problem(400, "invalid_argument");
        ASK(.verb = "GET", .path = "/v1/conversations", .query = "unknown=x",
                .authorization = authorization);
        assert_int_equal(http.status, 200);
}

static void wait_until_all_ended(void) {
        while (rest_n_active(rest) > 0)
                fixture_run_once();
}

static void test_client_goes_away(void **state) {
        const char *authorization = sign_in();
        Sc__SendResponse response = SC__SEND_RESPONSE__INIT;

        /* While the group role works on a hot method: it comes to its end. */
        begin((HttpRequest){.verb = "POST",
                .path = "/v1/conversations/c1/messages",
                JSON,
                .authorization = authorization,
                .body = "{\"text\":\"hold\"}"});
        while (!held_call)
                fixture_run_once();
        rest_on_abort(&http, rest);
        call_return(TAKE_PTR(held_call), &response.base);
        assert_int_equal(rest_n_active(rest), 0);
        assert_false(http.answered);
        /* While another method waits: the call is cancelled. */
        begin((HttpRequest){.verb = "GET",
                .path = "/v1/conversations",
                .query = "after=long",
                .authorization = authorization});
        while (n_lists_begun == 0)
                fixture_run_once();
        rest_on_abort(&http, rest);
        wait_until_all_ended();
        assert_int_equal(n_lists_cancelled, 1);
        assert_false(http.answered);
        /* While its session is checked. */
        begin((HttpRequest){.verb = "POST",
                .path = "/v1/conversations/c1/messages",
                JSON,
                .authorization = authorization,
                .body = "{\"text\":\"hold\"}"});
        rest_on_abort(&http, rest);
        wait_until_all_ended();
        assert_null(held_call);
        assert_false(http.answered);
        /* While health is probed. */
        begin((HttpRequest){.verb = "GET", .path = "/healthz"});
        rest_on_abort(&http, rest);
        wait_until_all_ended();
}

/* A request has as long as a call between roles, and no longer. */
static void test_deadline(void **state) {
        const char *authorization = sign_in();

        fixture.conf->rpc_timeout_usec = 50 * USEC_PER_MSEC;
        ASK(.verb = "GET", .path = "/v1/conversations", .query = "after=long",
                .authorization = authorization);
        assert_problem(504, "timeout");
        assert_int_equal(n_lists_begun, 1);
        assert_int_equal(n_lists_cancelled, 0);
}

/* A client that goes while the health is probed takes nothing from the one who shares the answer. */
static void test_health_is_shared(void **state) {
        HttpRequest first = {.verb = "GET", .path = "/healthz"};

        rest_on_request(&first, rest);
        begin((HttpRequest){.verb = "GET", .path = "/healthz"});
        rest_on_abort(&first, rest);
        while (!http.answered)
                fixture_run_once();
        assert_false(first.answered);
        assert_int_equal(http.status, 200);
}

/* Answers show what is meant for clients, not what is stored beside it. */
static void test_private_fields(void **state) {
        const char *authorization = sign_in();

        ASK(.verb = "POST", .path = "/v1/auth/login", JSON,
                .body = "{\"username\":\"ann\",\"password\":\"correct horse\"}");
        assert_non_null(strstr(http.content, "\"display_name\""));
        assert_null(strstr(http.content, "version"));
        ASK(.verb = "GET", .path = "/v1/users/me", .authorization = authorization);
        assert_non_null(strstr(http.content, "\"display_name\""));
        assert_null(strstr(http.content, "version"));
}

/* The role ends while a call is out. */
static void test_rest_ends_first(void **state) {
        const char *authorization = sign_in();

        begin((HttpRequest){.verb = "POST",
                .path = "/v1/conversations/c1/messages",
                JSON,
                .authorization = authorization,
                .body = "{\"text\":\"hold\"}"});
        while (!held_call)
                fixture_run_once();
        rest_on_abort(&http, rest);
        rest = rest_free(rest);
        call_fail(TAKE_PTR(held_call), ERROR_UNAVAILABLE, "%s", "");
        assert_false(http.answered);
}

static void set_list(char **list, const char *value) {
        free(*list);
        *list = strdup(value);
}

static void test_cors(void **state) {
        ASK(.verb = "GET", .path = "/", .origin = "https://a.example");
        assert_false(answer_has_header("access-control-allow-origin"));
        set_list(&fixture.conf->api_allowed_origins, "https://a.example https://b.example");
        ASK(.verb = "GET", .path = "/", .origin = "https://a.example");
        assert_true(answer_has_header("access-control-allow-origin: https://a.example\n"));
        assert_true(answer_has_header("vary: origin\n"));
        ASK(.verb = "GET", .path = "/", .origin = "https://a.example.org");
        assert_false(answer_has_header("access-control-allow-origin"));
        assert_true(answer_has_header("vary: origin\n"));
        ASK(.verb = "OPTIONS", .path = "/v1/auth/login", .origin = "https://b.example");
        assert_int_equal(http.status, 204);
        assert_true(answer_has_header("access-control-allow-origin: https://b.example\n"));
        assert_true(answer_has_header("access-control-allow-methods: POST, OPTIONS\n"));
        ASK(.verb = "OPTIONS", .path = "/nothing", .origin = "https://b.example");
        assert_problem(404, "method_not_found");
        /* Problems are readable for pages too. */
        assert_true(answer_has_header("access-control-allow-origin: https://b.example\n"));
        set_list(&fixture.conf->api_allowed_origins, "*");
        ASK(.verb = "GET", .path = "/", .origin = "https://c.example");
        assert_true(answer_has_header("access-control-allow-origin: https://c.example\n"));
}

static bool is_limited(const char *address, const char *forwarded_for) {
        ASK(.verb = "POST", .path = "/v1/auth/login", JSON, .address = address,
                .forwarded_for = forwarded_for, .body = "{\"username\":\"x\",\"password\":\"y\"}");
        return http.status == 429;
}

static void test_rate_limit_and_proxies(void **state) {
        fixture.conf->api_login_rate = 1;
        fixture.conf->api_login_burst = 1;
        assert_false(is_limited("192.0.2.1", NULL));
        assert_true(is_limited("192.0.2.1", NULL));
        assert_problem(429, "rate_limited");
        assert_true(answer_has_header("retry-after: "));
        /* Anybody can write the header. */
        assert_true(is_limited("192.0.2.1", "198.51.100.9"));
        set_list(&fixture.conf->api_trusted_proxies, "192.0.2.1 192.0.2.2");
        assert_false(is_limited("192.0.2.1", "198.51.100.9"));
        assert_true(is_limited("192.0.2.2", "198.51.100.9"));
        assert_true(is_limited("192.0.2.2", "203.0.113.1, 198.51.100.9"));
        assert_true(is_limited("192.0.2.2", "203.0.113.1,198.51.100.9 ,192.0.2.1"));
        assert_true(is_limited("192.0.2.1", "")); /* the proxy itself */
        assert_false(is_limited("192.0.2.1", "198.51.100.10"));
}

/* Every call is charged to its user and address, what has no user to the address. */
static void test_charges(void **state) {
        const char *authorization = sign_in();

        fixture.conf->limits_user_rate = fixture.conf->limits_address_rate = 1;
        fixture.conf->limits_user_burst = 3;
        fixture.conf->limits_address_burst = 10;
        for (unsigned i = 0; i < 5; i++) {
                ASK(.verb = "GET", .path = "/v1/users/me", .authorization = authorization,
                        .address = "192.0.2.7");
                assert_int_equal(http.status, i < 3 ? 200 : 429);
        }
        assert_problem(429, "rate_limited");
        assert_true(answer_has_header("retry-after: 1\n"));
        /* Wherever the user is; and somebody else there is not concerned. */
        ASK(.verb = "GET", .path = "/v1/users/me", .authorization = authorization, .address = "192.0.2.8");
        assert_int_equal(http.status, 429);
        for (unsigned i = 0; i < 7; i++) {
                ASK(.verb = "GET", .path = i % 2 ? "/nowhere" : "/openapi.json", .address = "192.0.2.7");
                assert_int_equal(http.status, i % 2 ? 404 : 200);
        }
        ASK(.verb = "GET", .path = "/", .address = "192.0.2.7");
        assert_problem(429, "rate_limited");
        ASK(.verb = "GET", .path = "/healthz", .address = "192.0.2.7");
        assert_int_equal(http.status, 200);
        /* Bad tokens are charged, too. */
        for (unsigned i = 0; i < 12; i++) {
                ASK(.verb = "GET", .path = "/v1/users/me", .authorization = "Bearer x",
                        .address = "192.0.2.9");
                assert_int_equal(http.status, i < 10 ? 401 : 429);
        }
}

static void test_refused_by_web_layer(void **state) {
        _cleanup_buffer_ Buffer body = {};

        rest_on_refused(ERROR_BODY_TOO_LARGE, &body, rest);
        assert_int_equal(buffer_append(&body, "", 1), 0);
        assert_string_equal((char *) body.data, "{\"type\":\"urn:stonechat:error:body_too_large\",\"title\":"
                                                "\"The body is larger than allowed\","
                                                "\"status\":413,\"code\":\"body_too_large\"}");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_pages),
                TEST(test_health),
                TEST(test_headers_of_every_answer),
                TEST(test_paths),
                TEST(test_refusals),
                TEST(test_authentication),
                TEST(test_expired_token),
                TEST(test_methods_of_group),
                TEST(test_client_goes_away),
                TEST(test_deadline),
                TEST(test_health_is_shared),
                TEST(test_private_fields),
                TEST(test_rest_ends_first),
                TEST(test_cors),
                TEST(test_rate_limit_and_proxies),
                TEST(test_charges),
                TEST(test_refused_by_web_layer),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
