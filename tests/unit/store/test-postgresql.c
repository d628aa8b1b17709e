/* SPDX-License-Identifier: Apache-2.0 */

/* What is PostgreSQL's alone: lost connections, a server that is restarted, stands still, refuses; another host
 * that writes to the same conversations; errors of one write among others. */

#include <stdio.h>
#include <sys/wait.h>

#include "postgresql-server.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define N_CONVERSATIONS 8U
#define N_MESSAGES 150U

/* --- people who talk all the time --- */

typedef struct Conversation {
        struct Load *load;
        Store *store;
        char name[8], sender[8];
        uint64_t after_seq;
        unsigned n; /* acknowledged */
        uint64_t seqs[N_MESSAGES];
} Conversation;

typedef struct Load {
        Fixture *f;
        Conversation conversations[2 * N_CONVERSATIONS];
        unsigned n_running, n_acknowledged, n_unknown, n_unreachable, n_repeated, n_stale;
} Load;

static void send_next(Conversation *c);

static void acknowledge(Conversation *c, uint64_t seq) {
        assert_true(seq > 0);
        c->seqs[c->n++] = seq;
        c->after_seq = MAX(c->after_seq, seq);
        c->load->n_acknowledged++;
}

static void on_appended(int r, const StoreAppended *appended, void *userdata) {
        Conversation *c = userdata;
        Load *load = c->load;

        switch (r) {
        case 0:
                assert_int_equal(appended->last_seq, c->after_seq + 1);
                acknowledge(c, appended->last_seq);
                break;
        case -EEXIST: /* an earlier try of which nobody knew */
                assert_int_equal(appended->n_taken, 1);
                acknowledge(c, appended->taken[0]->seq);
                load->n_repeated++;
                break;
        case -ESTALE:
                assert_true(appended->last_seq > c->after_seq);
                c->after_seq = appended->last_seq;
                load->n_stale++;
                break;
        case -EINPROGRESS:
                load->n_unknown++;
                break;
        case -ENOTCONN:
                load->n_unreachable++;
                break;
        default:
                fail_msg("%s", strerror(-r));
        }
        if (c->n < N_MESSAGES)
                send_next(c);
        else
                load->n_running--;
}

/* With a follower and an intent, so that it is known that they go with it. */
static void send_next(Conversation *c) {
        static const Sc__GroupPingRequest request = SC__GROUP_PING_REQUEST__INIT;
        Sc__ConversationHead head = SC__CONVERSATION_HEAD__INIT;
        const StoreItem follower = {
                .verb = STORE_PUT, .info = &sc__conversation_head__info, .record = &head.base};
        const StoreIntent intent = {
                .target = "elsewhere", .method = &method_group_ping, .request = &request.base};
        char id[16];

        snprintf(id, sizeof(id), "%s-%u", c->name, c->n);
        Sc__Message message = fixture_message(c->name, c->sender, id, "some text of a message");
        head.conversation = c->name;
        head.last_seq = c->after_seq + 1;
        int r = store_append_start(c->store,
                &(StoreAppend){
                        .conversation = c->name,
                        .after_seq = c->after_seq,
                        .entries = (Sc__Message *[]){&message},
                        .n = 1,
                        .followers = &follower,
                        .n_followers = 1,
                        .intents = &intent,
                        .n_intents = 1,
                },
                on_appended, c);
        assert_int_equal(r, 0);
}

static void load_add(Load *load, Fixture *f, Store *store, const char *sender) {
        load->f = f;
        for (unsigned i = 0; i < N_CONVERSATIONS; i++) {
                Conversation *c = &load->conversations[load->n_running++];
                c->load = load;
                c->store = store;
                snprintf(c->name, sizeof(c->name), "c%u", i);
                snprintf(c->sender, sizeof(c->sender), "%s", sender);
                send_next(c);
        }
}

static void load_run_until(Load *load, unsigned n_acknowledged) {
        uint64_t end = boottime_usec() + 60 * USEC_PER_SEC;

        while (load->n_running > 0 && load->n_acknowledged < n_acknowledged) {
                assert_true(boottime_usec() < end);
                assert_true(sd_event_run(load->f->event, 100000) >= 0);
        }
}

static long count_in(const Fixture *f, const char *format, const char *name) {
        const char *schema = strrchr(f->directory, '/') + 1;
        _cleanup_free_ char *sql = format_string(format, schema, name);

        return postgresql_query(sql);
}

/* Everything acknowledged is where it was said to be, once, and what goes with it as well. */
static void load_verify(const Load *load) {
        Fixture *f = load->f;

        for (unsigned i = 0; i < N_CONVERSATIONS; i++) {
                const char *name = load->conversations[i].name;
                long n = (long) fixture_count_messages(f, name);
                assert_int_equal(
                        count_in(f, "SELECT last_seq FROM \"%s\".heads WHERE conversation = '%s'", name), n);
                assert_int_equal(
                        count_in(f, "SELECT count(*) FROM \"%s\".intents WHERE source = '%s'", name), n);
                assert_int_equal(
                        count_in(f, "SELECT number FROM \"%s\".intent_counters WHERE source = '%s'", name),
                        n);
                assert_int_equal(
                        count_in(f, "SELECT max(number) FROM \"%s\".intents WHERE source = '%s'", name), n);
        }
        for (const Conversation *c = load->conversations; c < load->conversations + 2 * N_CONVERSATIONS; c++)
                for (unsigned i = 0; i < c->n; i++) {
                        Sc__Message key = SC__MESSAGE__INIT;
                        char id[16];
                        key.conversation = (char *) c->name;
                        key.seq = c->seqs[i];
                        snprintf(id, sizeof(id), "%s-%u", c->name, i);
                        Sc__Message *found = (Sc__Message *) fixture_get(f, &sc__message__info, &key);
                        assert_non_null(found);
                        assert_string_equal(found->client_msg_id, id);
                        assert_string_equal(found->sender, c->sender);
                        sc__message__free_unpacked(found, NULL);
                }
}

/* --- lost connections --- */

static long terminate_connections(void) {
        return postgresql_query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                                " WHERE application_name LIKE 'stonechat%'");
}

static void test_connections_are_killed(void **state) {
        Load load = {};

        load_add(&load, *state, ((Fixture *) *state)->store, "ann");
        for (unsigned n = 50; load.n_running > 0; n += 100) {
                load_run_until(&load, n);
                assert_true(terminate_connections() > 0);
        }
        load_verify(&load);
}

static void test_server_restarts(void **state) {
        static const int signals[] = {SIGINT, SIGQUIT};
        Load load = {};

        load_add(&load, *state, ((Fixture *) *state)->store, "ann");
        for (unsigned i = 0; i < 4; i++) {
                load_run_until(&load, 100 + 250 * i);
                postgresql_stop(signals[i % 2]);
                for (unsigned k = 0; k < 20; k++)
                        sd_event_run(load.f->event, 10000);
                assert_false(store_is_connected(load.f->store));
                postgresql_start();
        }
        load_run_until(&load, UINT32_MAX);
        assert_int_equal(load.n_unreachable, 0); /* it was back in time */
        /* Connections that read may come back after the last write; the test's time-out bounds this. */
        while (!store_is_connected(load.f->store))
                assert_true(sd_event_run(load.f->event, UINT64_MAX) >= 0);
        load_verify(&load);
}

static void test_reads_survive(void **state) {
        Fixture *f = *state;

        for (unsigned i = 0; i < 20; i++) {
                char id[8];
                snprintf(id, sizeof(id), "m%u", i);
                assert_int_equal(fixture_append_text(f, "c", i, "ann", id, "text").r, 0);
                terminate_connections();
                assert_int_equal(fixture_count_messages(f, "c"), i + 1);
        }
}

/* --- another host --- */

static void test_two_hosts(void **state) {
        Fixture *f = *state;
        const StoreConfig config = fixture_config(f);
        Load load = {};
        Store *other;

        assert_int_equal(store_open(&other, f->event, &config), 0);
        load_add(&load, f, f->store, "ann");
        load_add(&load, f, other, "bob");
        load_run_until(&load, UINT32_MAX);
        assert_int_equal(load.n_unknown + load.n_unreachable, 0);
        assert_true(load.n_stale > 0);
        assert_int_equal(load.n_repeated, 0);
        load_verify(&load);
        store_close(other);
}

/* --- a server that does not answer --- */

static void on_write(int r, const StoreAppended *appended, void *userdata) {
        *(int *) userdata = r;
}

static StoreConfig impatient_config(const Fixture *f) {
        StoreConfig config = postgresql_config(f);

        config.timeout_usec = 500 * USEC_PER_MSEC;
        return config;
}

static int setup_impatient(void **state) {
        fixture_config = impatient_config;
        int r = fixture_setup(state);
        fixture_config = postgresql_config;
        return r;
}

static void test_server_is_gone(void **state) {
        Fixture *f = *state;

        assert_int_equal(fixture_append_text(f, "c", 0, "ann", "m1", "text").r, 0);
        postgresql_stop(SIGINT);
        Sc__User key = SC__USER__INIT;
        key.id = (char *) "u";
        const StoreRead read = {.info = &sc__user__info, .from = &key.base, .n_prefix = 1};
        Rows rows = {};
        int write = fixture_append_text(f, "c", 1, "ann", "m2", "text").r;
        assert_true(write == -ENOTCONN || write == -EINPROGRESS);
        assert_int_equal(fixture_append_text(f, "c", 1, "ann", "m2", "text").r, -ENOTCONN);
        assert_int_equal(fixture_read(f, &read, 1, &rows), -ENOTCONN);
        fixture_rows_done(&rows);
        assert_false(store_is_connected(f->store));
        postgresql_start();
        while (!store_is_connected(f->store))
                assert_true(sd_event_run(f->event, 1000000) >= 0);
        assert_int_equal(fixture_append_text(f, "c", 1, "ann", "m2", "text").r, 0);
        assert_int_equal(fixture_count_messages(f, "c"), 2);
}

/* A transaction of the administrator holds the conversation's next place: the write waits, too long. */
static void test_unknown_outcome(void **state) {
        Fixture *f = *state;
        const char *schema = strrchr(f->directory, '/') + 1;

        assert_int_equal(fixture_append_text(f, "c", 0, "ann", "m1", "text").r, 0);
        PGconn *conn = postgresql_connect();
        _cleanup_free_ char *sql = format_string("BEGIN; LOCK TABLE \"%s\".messages", schema);
        PQclear(PQexec(conn, sql));
        int r = fixture_append_text(f, "c", 1, "ann", "m2", "text").r;
        /* The server may notice first: then it is certain that nothing was done. */
        assert_true(r == -EINPROGRESS || r == -EIO || r == -ENOTCONN);
        PQfinish(conn);
        Appended again = fixture_append_text(f, "c", 1, "ann", "m2", "text");
        while (again.r == -ENOTCONN)
                again = fixture_append_text(f, "c", 1, "ann", "m2", "text");
        if (again.r == -ESTALE)
                again = fixture_append_text(f, "c", 2, "ann", "m2", "text");
        assert_true(again.r == 0 || (again.r == -EEXIST && again.taken[0].seq == 2));
        assert_int_equal(fixture_count_messages(f, "c"), 2);
}

/* Appends one message while the administrator cancels whatever waits for the standby. */
static int append_and_cancel(Fixture *f, uint64_t after_seq, const char *id) {
        Sc__Message message = fixture_message("c", "ann", id, "text");
        uint64_t end = boottime_usec() + 20 * USEC_PER_SEC;
        int r = 1;

        store_append_start(f->store,
                &(StoreAppend){
                        .conversation = "c",
                        .after_seq = after_seq,
                        .entries = (Sc__Message *[]){&message},
                        .n = 1,
                },
                on_write, &r);
        while (r == 1) {
                assert_true(boottime_usec() < end);
                sd_event_run(f->event, 20000);
                postgresql_query("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
                                 " WHERE wait_event = 'SyncRep'");
        }
        return r;
}

/* The administrator cancels the wait for a standby: committed here, and perhaps nowhere else. */
static void test_standby_does_not_answer(void **state) {
        Fixture *f = *state;
        uint64_t seq = 0;
        char id[16] = "";
        int r = 0;

        postgresql_query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        postgresql_query("SELECT pg_reload_conf()");
        /* The server's processes take a moment to notice. */
        for (; r == 0; seq++) {
                snprintf(id, sizeof(id), "m%lu", (unsigned long) seq);
                r = append_and_cancel(f, seq, id);
        }
        postgresql_query("ALTER SYSTEM RESET synchronous_standby_names");
        postgresql_query("SELECT pg_reload_conf()");
        assert_int_equal(r, -EINPROGRESS);
        assert_int_equal(fixture_append_text(f, "c", seq - 1, "ann", id, "text").r, -ESTALE);
        assert_int_equal(fixture_append_text(f, "c", seq, "ann", id, "text").r, -EEXIST);
}

/* Of a server that has become a standby: none of it is done, and it is tried elsewhere. */
static void test_server_is_read_only(void **state) {
        Fixture *f = *state;
        uint64_t n = 0;
        int r = 0;

        postgresql_query("ALTER SYSTEM SET default_transaction_read_only = on");
        postgresql_query("SELECT pg_reload_conf()");
        /* The server's processes take a moment to notice. */
        for (; r == 0; n += r == 0)
                r = fixture_append_text(f, "c", n, "ann", "", "text").r;
        assert_int_equal(r, -ENOTCONN);
        postgresql_query("ALTER SYSTEM RESET default_transaction_read_only");
        postgresql_query("SELECT pg_reload_conf()");
        while ((r = fixture_append_text(f, "c", n, "ann", "m2", "text").r) == -ENOTCONN)
                ;
        assert_int_equal(r, 0);
        assert_int_equal(fixture_count_messages(f, "c"), n + 1);
}

/* --- one write among others --- */

/* Text that is no UTF-8 cannot be stored: an error of the engine, not a refusal. */
static void test_error_among_others(void **state) {
        enum { N = 64 };
        Fixture *f = *state;
        int results[N];

        for (unsigned i = 0; i < N; i++) {
                char name[8];
                snprintf(name, sizeof(name), "c%u", i);
                Sc__Message message = fixture_message(name, "ann", name, i % 20 == 7 ? "\xff" : "text");
                results[i] = 1;
                int r = store_append_start(f->store,
                        &(StoreAppend){
                                .conversation = name,
                                .entries = (Sc__Message *[]){&message},
                                .n = 1,
                        },
                        on_write, &results[i]);
                assert_int_equal(r, 0);
        }
        for (unsigned i = 0; i < N; i++)
                while (results[i] == 1)
                        assert_true(sd_event_run(f->event, 10000000) > 0);
        for (unsigned i = 0; i < N; i++)
                assert_int_equal(results[i], i % 20 == 7 ? -EINVAL : 0);
}

static void test_full_disk(void **state) {
        /* The server says so with a code of its own; a trigger says the same. */
        Fixture *f = *state;
        const char *schema = strrchr(f->directory, '/') + 1;
        _cleanup_free_ char *sql =
                format_string("CREATE FUNCTION \"%s\".refuse() RETURNS trigger LANGUAGE plpgsql AS"
                              " $$BEGIN RAISE disk_full; END$$;"
                              " CREATE TRIGGER refuse BEFORE INSERT ON \"%s\".messages FOR EACH ROW EXECUTE "
                              "FUNCTION \"%s\".refuse()",
                        schema, schema, schema);
        _cleanup_free_ char *undo = format_string("DROP TRIGGER refuse ON \"%s\".messages", schema);

        postgresql_query(sql);
        assert_int_equal(fixture_append_text(f, "c", 0, "ann", "m1", "text").r, -ENOSPC);
        postgresql_query(undo);
        assert_int_equal(fixture_append_text(f, "c", 0, "ann", "m1", "text").r, 0);
}

/* --- opening --- */

static int open_with(Fixture *f, const char *uri, const char *password) {
        StoreConfig config = postgresql_config(f);

        config.uri = uri;
        config.password = password;
        config.timeout_usec = 300 * USEC_PER_MSEC;
        return store_open(&f->store, f->event, &config);
}

static void test_refused_connections(void **state) {
        Fixture *f = *state;
        const char *place = strstr(postgresql_uri(), "host=");
        _cleanup_free_ char *in_uri =
                format_string("postgresql://stonechat:correct%%20horse@/postgres?%s", place);
        _cleanup_free_ char *no_user = format_string("postgresql://nobody@/postgres?%s", place);
        _cleanup_free_ char *no_database = format_string("postgresql://stonechat@/nowhere?%s", place);

        assert_int_equal(open_with(f, postgresql_uri(), "wrong"), -EACCES);
        assert_int_equal(open_with(f, postgresql_uri(), NULL), -EACCES);
        assert_int_equal(open_with(f, no_user, POSTGRESQL_PASSWORD), -EACCES);
        assert_int_equal(open_with(f, no_database, POSTGRESQL_PASSWORD), -ENOENT);
        assert_int_equal(open_with(f, in_uri, NULL), -EINVAL);
        assert_int_equal(open_with(f, "postgresql://[", NULL), -EINVAL);
        assert_int_equal(open_with(f, "postgresql://stonechat@/postgres?host=/nowhere", NULL), -ENOTCONN);
        assert_int_equal(open_with(f, "postgresql://stonechat@127.0.0.1:1/postgres", NULL), -ENOTCONN);
        assert_int_equal(open_with(f, postgresql_uri(), POSTGRESQL_PASSWORD), 0);
}

/* Several hosts: the first that answers and takes writes. */
static void test_several_hosts(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *uri =
                format_string("postgresql://stonechat@/postgres?host=127.0.0.1,/nowhere,%s&port=1,5432,5432",
                        strstr(postgresql_uri(), "host=") + strlen("host="));

        assert_int_equal(open_with(f, uri, POSTGRESQL_PASSWORD), 0);
        assert_int_equal(fixture_append_text(f, "c", 0, "ann", "m1", "text").r, 0);
}

static void test_schema_version(void **state) {
        Fixture *f = *state;

        assert_int_equal(count_in(f, "SELECT version FROM \"%s\".stonechat_schema", ""), 2);
        fixture_close(f);
        assert_int_equal(fixture_open(f, NULL), 0);
        fixture_close(f);
        count_in(f, "UPDATE \"%s\".stonechat_schema SET version = 3", "");
        assert_int_equal(fixture_open(f, NULL), -EUCLEAN);
}

/* A column that is new, and an index, are added to a table that has rows. */
static void test_schema_is_completed(void **state) {
        Fixture *f = *state;

        assert_int_equal(fixture_append_text(f, "c", 0, "ann", "m1", "text").r, 0);
        fixture_close(f);
        count_in(f, "ALTER TABLE \"%s\".messages DROP COLUMN count, DROP COLUMN client_msg_id", "");
        assert_int_equal(fixture_open(f, NULL), 0);
        assert_int_equal(fixture_append_text(f, "c", 1, "ann", "m2", "text").r, 0);
        assert_int_equal(fixture_append_text(f, "c", 2, "ann", "m2", "text").r, -EEXIST);
        assert_int_equal(fixture_count_messages(f, "c"), 2);
}

/* Two roles that start at the same time. */
static void test_opened_at_once(void **state) {
        Fixture *f = *state;
        pid_t pids[4];

        for (unsigned i = 0; i < 4; i++) {
                pids[i] = fork();
                if (pids[i] == 0) {
                        bool opened = sd_event_new(&f->event) >= 0 && fixture_open(f, NULL) == 0;
                        _exit(opened ? EXIT_SUCCESS : EXIT_FAILURE);
                }
        }
        for (unsigned i = 0; i < 4; i++) {
                int status;
                waitpid(pids[i], &status, 0);
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
}

static void test_gaps_are_found(void **state) {
        Fixture *f = *state;

        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(fixture_append_text(f, "c", i, "ann", "", "text").r, 0);
        assert_int_equal(fixture_check(f).n_findings, 0);
        count_in(f, "DELETE FROM \"%s\".messages WHERE seq = 2", "");
        Checked checked = fixture_check(f);
        assert_int_equal(checked.r, 0);
        assert_int_equal(checked.n_findings, 1);
        assert_non_null(strstr(checked.first, "conversation c has 2 entries"));
        assert_true(checked.pages > 0);
}

/* What is queued is stored when the store is closed. */
static void test_close(void **state) {
        Fixture *f = *state;
        Load load = {};

        load_add(&load, f, f->store, "ann");
        for (unsigned i = 0; i < N_CONVERSATIONS; i++)
                load.conversations[i].n = N_MESSAGES - 1; /* one each, and no more */
        fixture_close(f);
        assert_int_equal(load.n_acknowledged, N_CONVERSATIONS);
        assert_int_equal(load.n_running, 0);
}

static int run(void) {
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
#define TEST_CLOSED(name) cmocka_unit_test_setup_teardown(name, fixture_setup_closed, fixture_teardown)
#define TEST_IMPATIENT(name) cmocka_unit_test_setup_teardown(name, setup_impatient, fixture_teardown)
                TEST(test_connections_are_killed),
                TEST(test_server_restarts),
                TEST(test_reads_survive),
                TEST(test_two_hosts),
                TEST_IMPATIENT(test_server_is_gone),
                TEST_IMPATIENT(test_unknown_outcome),
                TEST(test_standby_does_not_answer),
                TEST_IMPATIENT(test_server_is_read_only),
                TEST(test_error_among_others),
                TEST(test_full_disk),
                TEST_CLOSED(test_refused_connections),
                TEST_CLOSED(test_several_hosts),
                TEST(test_schema_version),
                TEST(test_schema_is_completed),
                TEST_CLOSED(test_opened_at_once),
                TEST(test_gaps_are_found),
                TEST(test_close),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) {
        fixture_config = postgresql_config;
        return postgresql_run(run);
}
