/* SPDX-License-Identifier: Apache-2.0 */

/* The tasks against roles that answer what a script says, over real sockets. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "job/job.h"
#include "log/log.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

static struct {
        unsigned n_purges, n_accounts, n_conversations;
        uint32_t left; /* expired sessions */
        unsigned n_busy; /* purges to come that delete nothing, as the sessions were changed meanwhile */
        bool lie, refuse, damaged;
        unsigned n_parked; /* intents of each role */
        unsigned n_retried;
} script;

static int purge(Call *call, const ProtobufCMessage *message, ProtobufCMessage *answer) {
        const Sc__SessionPurgeRequest *request = (const Sc__SessionPurgeRequest *) message;
        Sc__SessionPurgeResponse *response = (Sc__SessionPurgeResponse *) answer;

        script.n_purges++;
        if (script.refuse)
                return call_refuse(call, ERROR_STORAGE_FULL, "accounts.db");
        assert_true(request->limit > 0);
        bool busy = script.n_busy > 0 && script.n_busy-- > 0;
        response->deleted = script.lie || busy ? 0 : MIN(script.left, request->limit);
        script.left -= response->deleted;
        response->more = script.left > 0;
        return 0;
}

static void answer_check(ProtobufCMessage *answer, bool ok) {
        static const char *findings[] = {"row 7 missing from index"};
        Sc__StoreCheckResponse *response = (Sc__StoreCheckResponse *) answer;

        response->ok = ok;
        response->pages = 12;
        if (!ok) {
                response->findings = (char **) findings;
                response->n_findings = 1;
        }
}

static int check_accounts(Call *call, const ProtobufCMessage *message, ProtobufCMessage *answer) {
        script.n_accounts++;
        answer_check(answer, !script.damaged);
        return 0;
}

static int check_conversations(Call *call, const ProtobufCMessage *message, ProtobufCMessage *answer) {
        script.n_conversations++;
        answer_check(answer, true);
        return 0;
}

static int retry(Call *call, const ProtobufCMessage *message, ProtobufCMessage *answer) {
        if (script.refuse && call->method == &method_accounts_retry_intents)
                return call_refuse(call, ERROR_UNAVAILABLE, "accounts.db");
        script.n_retried += script.n_parked;
        ((Sc__RetryIntentsResponse *) answer)->retried = script.n_parked;
        return 0;
}

static const MethodBinding api_bindings[] = {
        {&method_session_purge, purge, NULL},
        {&method_accounts_check, check_accounts, NULL},
        {&method_accounts_retry_intents, retry, NULL},
        {},
};
static const MethodBinding group_bindings[] = {
        {&method_conversations_check, check_conversations, NULL},
        {&method_conversations_retry_intents, retry, NULL},
        {},
};

typedef struct Fixture {
        char directory[64];
        sd_event *event;
        Routes *routes;
        Dispatcher *api, *group;
        Job *job;
} Fixture;

static Dispatcher *serve(Fixture *f, const MethodBinding *bindings, Role role) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        Dispatcher *dispatcher = NULL;

        strcpy(address.sun_path, routes_address(f->routes, role, NULL));
        *strrchr(address.sun_path, '/') = 0; /* each has a directory of its own */
        assert_int_equal(mkdir(address.sun_path, 0700), 0);
        strcpy(address.sun_path, routes_address(f->routes, role, NULL));
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 8), 0);
        assert_int_equal(dispatcher_new(&dispatcher, f->event, f->routes, bindings, USEC_PER_SEC), 0);
        assert_int_equal(dispatcher_serve(dispatcher, fd, NULL), 0);
        return dispatcher;
}

static int set_up(void **state) {
        Fixture *f = new0(Fixture, 1);

        memset(&script, 0, sizeof(script));
        strcpy(f->directory, "/tmp/test-job-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        setenv("STONECHAT_RUNTIME_DIRECTORY", f->directory, true);
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(routes_new(&f->routes, NULL, NULL, NULL), 0);
        f->api = serve(f, api_bindings, ROLE_API);
        f->group = serve(f, group_bindings, ROLE_GROUP);
        assert_int_equal(job_new(&f->job, f->event), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        job_free(f->job);
        dispatcher_free(f->api);
        dispatcher_free(f->group);
        _cleanup_free_ char *command = format_string("rm -r %s", f->directory);
        assert_int_equal(system(command), 0);
        routes_free(f->routes);
        sd_event_unref(f->event);
        free(f);
        return 0;
}

static int run(Fixture *f, const char *name) {
        const JobTask *task = job_find_task(name);
        assert_non_null(task);
        return task->run(f->job);
}

static void test_find(void **state) {
        assert_null(job_find_task("no-such-task"));
        assert_null(job_find_task(""));
}

static void test_purge(void **state) {
        Fixture *f = *state;

        script.left = 1201;
        assert_int_equal(run(f, "expired-sessions"), 0);
        assert_int_equal(script.left, 0);
        assert_true(script.n_purges > 1);
}

static void test_purge_of_sessions_in_use(void **state) {
        Fixture *f = *state;

        script.left = 1201;
        script.n_busy = 2;
        assert_int_equal(run(f, "expired-sessions"), 0);
        assert_int_equal(script.left, 0);
}

static void test_purge_failures(void **state) {
        Fixture *f = *state;

        script.left = 10;
        script.lie = true; /* an endless loop otherwise */
        assert_int_equal(run(f, "expired-sessions"), -EREMOTEIO);
        script.refuse = true;
        assert_int_equal(run(f, "expired-sessions"), -EREMOTEIO);
        assert_true(script.n_purges < 100);
}

static void test_check(void **state) {
        Fixture *f = *state;

        assert_int_equal(run(f, "integrity-check"), 0);
        script.damaged = true;
        assert_int_equal(run(f, "integrity-check"), 1);
        assert_int_equal(script.n_accounts, 2);
        assert_int_equal(script.n_conversations, 2); /* the other one is checked all the same */
}

static void test_retry_intents(void **state) {
        Fixture *f = *state;

        assert_int_equal(run(f, "retry-intents"), 0);
        assert_int_equal(script.n_retried, 0);
        script.n_parked = 3;
        assert_int_equal(run(f, "retry-intents"), 0);
        assert_int_equal(script.n_retried, 6);
        script.refuse = true;
        assert_int_equal(run(f, "retry-intents"), -EREMOTEIO);
        assert_int_equal(script.n_retried, 9); /* the other one is asked all the same */
}

static void test_no_role(void **state) {
        Fixture *f = *state;

        assert_int_equal(unlink(routes_address(f->routes, ROLE_API, NULL)), 0);
        assert_int_equal(run(f, "integrity-check"), -ENXIO);
        assert_int_equal(script.n_conversations, 1);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_find),
                TEST(test_purge),
                TEST(test_purge_of_sessions_in_use),
                TEST(test_purge_failures),
                TEST(test_check),
                TEST(test_retry_intents),
                TEST(test_no_role),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
