/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/conf.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* Three directories of our own: etc, run, lib, the most important first. */
typedef struct Place {
        char base[32];
        char dir_paths[3][48];
        const char *dirs[4];
        char problems[4096]; /* heard since the last load, a line each */
} Place;

static void write_file(Place *place, const char *name, const char *content) {
        _cleanup_free_ char *path = format_string("%s/%s", place->base, name);
        FILE *f = fopen(path, "w");

        assert_non_null(f);
        fputs(content, f);
        assert_int_equal(fclose(f), 0);
}

static int setup(void **state) {
        static const char *const names[] = {"etc", "run", "lib"};
        Place *place = new0(Place, 1);

        strcpy(place->base, "/tmp/test-conf-XXXXXX");
        assert_non_null(mkdtemp(place->base));
        for (size_t i = 0; i < 3; i++) {
                snprintf(place->dir_paths[i], sizeof(place->dir_paths[i]), "%s/%s", place->base, names[i]);
                _cleanup_free_ char *drop_ins = format_string("%s/stonechat.conf.d", place->dir_paths[i]);
                assert_int_equal(mkdir(place->dir_paths[i], 0700), 0);
                assert_int_equal(mkdir(drop_ins, 0700), 0);
                place->dirs[i] = place->dir_paths[i];
        }
        *state = place;
        return 0;
}

static int teardown(void **state) {
        Place *place = *state;
        _cleanup_free_ char *command = format_string("rm -rf '%s'", place->base);

        assert_int_equal(system(command), 0);
        free(place);
        return 0;
}

static void on_problem(const char *problem, void *userdata) {
        Place *place = userdata;
        size_t n = strlen(place->problems), base = strlen(place->base);

        /* Without the directory's random name. */
        if (strncmp(problem, place->base, base) == 0)
                problem += base + 1;
        snprintf(place->problems + n, sizeof(place->problems) - n, "%s\n", problem);
}

static int load(Place *place, const char *const *environment, Conf **ret) {
        ConfSource source = {.dirs = place->dirs, .environment = (char *const *) environment};

        place->problems[0] = 0;
        return conf_load(&source, on_problem, place, ret);
}

static int reload(Place *place, Conf *conf) {
        ConfSource source = {.dirs = place->dirs};

        place->problems[0] = 0;
        return conf_reload(conf, &source, on_problem, place);
}

static void test_defaults(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        Place *place = *state;

        assert_int_equal(load(place, NULL, &conf), 0);
        assert_string_equal(place->problems, "");
        assert_int_equal(conf->api_max_body, 256 * 1024);
        assert_true(conf->api_registration);
        assert_true(conf->auth_refresh_token_usec == 30ULL * 86400 * USEC_PER_SEC);
        assert_string_equal(conf->store_kind, "sqlite");
        assert_string_equal(conf->cluster_peers, "");
        assert_null(conf->sources[0]);
}

/* Every default lies in its range and is written as conf_format() writes it. */
static void test_table(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL;

        assert_int_equal(load(*state, NULL, &conf), 0);
        FOREACH_ARRAY(key, conf_keys, conf_n_keys) {
                _cleanup_free_ char *text = conf_format(conf, key);
                assert_string_equal(text, key->default_value);
                assert_true(strlen(key->help) > 10);
                FOREACH_ARRAY(other, conf_keys, conf_n_keys) {
                        bool same = streq(key->section, other->section) && streq(key->name, other->name);
                        assert_true(key == other || (!same && key->offset != other->offset));
                }
        }
}

static void test_order(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        Place *place = *state;

        write_file(place, "lib/stonechat.conf", "[Api]\nMaxBody=1K\nMaxConnections=1\n");
        write_file(place, "run/stonechat.conf", "[Api]\nMaxBody=2K\n");
        /* Sorted by name, not by directory. */
        write_file(place, "lib/stonechat.conf.d/50-b.conf", "[Log]\nTraceRate=5\n[Group]\nMaxRecovery=5\n");
        write_file(place, "etc/stonechat.conf.d/40-a.conf", "[Log]\nTraceRate=4\n");
        write_file(place, "etc/stonechat.conf.d/60-c.conf", "[Group]\nMaxRecovery=6\n");
        /* The same name: only the one in etc counts. */
        write_file(
                place, "run/stonechat.conf.d/60-c.conf", "[Group]\nMaxRecovery=7\nCacheConversations=16\n");
        /* Not drop-ins. */
        write_file(place, "etc/stonechat.conf.d/99-x.conf.bak", "[Group]\nMaxRecovery=8\n");
        write_file(place, "etc/stonechat.conf.d/.99-x.conf", "[Group]\nMaxRecovery=9\n");
        assert_int_equal(load(place, NULL, &conf), 0);
        assert_string_equal(place->problems, "");
        assert_int_equal(conf->api_max_body, 2048);
        assert_int_equal(conf->api_max_connections, 2000); /* lib's main file was not read */
        assert_int_equal(conf->log_trace_rate, 5);
        assert_int_equal(conf->group_max_recovery, 6);
        assert_int_equal(conf->group_cache_conversations, 20000);
}

static void test_masking(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        Place *place = *state;

        write_file(place, "lib/stonechat.conf", "[Api]\nMaxBody=1K\n");
        write_file(place, "lib/stonechat.conf.d/10-a.conf", "[Log]\nTraceRate=1\n");
        write_file(place, "lib/stonechat.conf.d/10-b.conf", "[Group]\nMaxRecovery=1\n");
        write_file(place, "etc/stonechat.conf.d/10-a.conf", "");
        _cleanup_free_ char *link = format_string("%s/run/stonechat.conf.d/10-b.conf", place->base);
        _cleanup_free_ char *main_link = format_string("%s/etc/stonechat.conf", place->base);
        assert_int_equal(symlink("/dev/null", link), 0);
        assert_int_equal(symlink("/dev/null", main_link), 0);
        assert_int_equal(load(place, NULL, &conf), 0);
        assert_int_equal(conf->api_max_body, 256 * 1024);
        assert_int_equal(conf->log_trace_rate, 5);
        assert_int_equal(conf->group_max_recovery, 500);
}

static void test_bad_values(void **state) {
        static const struct {
                const char *text, *problem;
        } cases[] = {
                {"[Api]\nMaxBody=x\n", "Api.MaxBody: \"x\" is not a size such as 65536, 64K or 1M"},
                {"[Api]\nMaxBody=1\n", "Api.MaxBody: 1 is not between 1K and 16M"},
                {"[Api]\nMaxBody=99999999999G\n", "Api.MaxBody: 99999999999G is not between 1K and 16M"},
                {"[Api]\nMaxConnections=-1\n", "Api.MaxConnections: \"-1\" is not a whole number"},
                {"[Api]\nRegistration=maybe\n", "Api.Registration: \"maybe\" is neither yes nor no"},
                {"[Rpc]\nTimeoutSec=soon\n",
                        "Rpc.TimeoutSec: \"soon\" is not a duration such as 30s, 5min or 1h"},
                {"[Rpc]\nTimeoutSec=0\n", "Rpc.TimeoutSec: 0 is not between 100ms and 10min"},
                {"[Log]\nLevel=loud\n", "Log.Level: \"loud\" is not one of: debug info notice warning err"},
        };
        Place *place = *state;

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_(conf_freep) Conf *conf = NULL;
                write_file(place, "etc/stonechat.conf", c->text);
                assert_int_equal(load(place, NULL, &conf), -EINVAL);
                _cleanup_free_ char *expected = format_string("etc/stonechat.conf:2: %s\n", c->problem);
                assert_string_equal(place->problems, expected);
                assert_non_null(conf); /* with the defaults */
                assert_int_equal(conf->api_max_body, 256 * 1024);
                assert_int_equal(conf->rpc_timeout_usec, 10 * USEC_PER_SEC);
        }
}

static void test_unknown_is_ignored(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        Place *place = *state;

        write_file(place, "etc/stonechat.conf", "[Api]\nColour=red\n[Nothing]\nx=y\n");
        assert_int_equal(load(place, NULL, &conf), 0);
        assert_string_equal(place->problems,
                "etc/stonechat.conf:2: Api.Colour: there is no such key; ignored\n"
                "etc/stonechat.conf:4: Nothing.x: there is no such section; ignored\n");
}

static void test_syntax_error(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        Place *place = *state;

        write_file(place, "etc/stonechat.conf", "[Api]\nMaxBody 1K\n");
        assert_int_equal(load(place, NULL, &conf), -EINVAL);
        assert_string_equal(place->problems,
                "etc/stonechat.conf:2: expected \"[Section]\", \"Key=Value\" or a comment\n");
}

static void test_empty_resets(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        Place *place = *state;

        write_file(place, "etc/stonechat.conf", "[Api]\nMaxBody=1K\nMaxBody=\n[Log]\nLevel=err\nLevel=\n");
        assert_int_equal(load(place, NULL, &conf), 0);
        assert_int_equal(conf->api_max_body, 256 * 1024);
        assert_string_equal(conf->log_level, "info");
}

static void test_lists(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL, *other = NULL;
        Place *place = *state;

        write_file(place, "etc/stonechat.conf", "[Socket]\nAllowedOrigins=a  b\nAllowedOrigins=b c\n");
        assert_int_equal(load(place, NULL, &conf), 0);
        assert_string_equal(conf->socket_allowed_origins, "a b c");
        assert_true(conf_list_contains(conf->socket_allowed_origins, "b"));
        assert_false(conf_list_contains(conf->socket_allowed_origins, "a b"));
        assert_false(conf_list_contains("aa", "a"));
        assert_false(conf_list_contains("", "a"));
        write_file(place, "etc/stonechat.conf.d/60-x.conf", "[Socket]\nAllowedOrigins=\nAllowedOrigins=d\n");
        assert_int_equal(load(place, NULL, &other), 0);
        assert_string_equal(other->socket_allowed_origins, "d");
}

static void test_environment(void **state) {
        const char *environment[] = {"STONECHAT_API_MAXBODY=3K", "STONECHAT_API_MAXBODY2=x",
                "STONECHAT_SOCKET_ALLOWEDORIGINS=x y", "STONECHAT_RUNTIME_DIRECTORY=/x", "HOME=/", NULL};
        const char *bad_environment[] = {"STONECHAT_LOG_LEVEL=loud", NULL};
        _cleanup_(conf_freep) Conf *conf = NULL, *other = NULL;
        Place *place = *state;

        write_file(place, "etc/stonechat.conf", "[Api]\nMaxBody=1K\n[Socket]\nAllowedOrigins=a\n");
        assert_int_equal(load(place, environment, &conf), 0);
        assert_string_equal(place->problems, "");
        assert_int_equal(conf->api_max_body, 3072);
        assert_string_equal(conf->socket_allowed_origins, "x y");
        assert_string_equal(conf->sources[0], "STONECHAT_API_MAXBODY");
        assert_int_equal(load(place, bad_environment, &other), -EINVAL);
        assert_string_equal(place->problems,
                "STONECHAT_LOG_LEVEL: Log.Level: \"loud\" is not one of: debug info notice warning err\n");
}

static void test_sqlite_has_no_peers(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        Place *place = *state;

        write_file(place, "etc/stonechat.conf", "[Cluster]\nPeers=other.example.org\n");
        assert_int_equal(load(place, NULL, &conf), -EINVAL);
        assert_non_null(
                strstr(place->problems, "etc/stonechat.conf:2: Cluster.Peers: a store of kind sqlite"));
}

static void test_store_uri(void **state) {
        static const struct {
                const char *uri;
                bool has_password;
        } uris[] = {
                {"postgresql://stonechat@/stonechat?host=/run/postgresql", false},
                {"postgresql://stonechat@[::1]:5432,10.0.0.2:5433/stonechat", false},
                {"host=/run/postgresql dbname=a:b@c", false},
                {"postgresql://stonechat:secret@/stonechat", true},
                {"postgresql://:secret@localhost:5432/stonechat", true},
                {"postgresql://stonechat@/stonechat?password=secret", true},
                {"host=/run/postgresql password=secret", true},
                {"host=/run/postgresql PASSWORD = secret", true},
        };
        Place *place = *state;

        for (size_t i = 0; i < ELEMENTSOF(uris); i++) {
                _cleanup_(conf_freep) Conf *conf = NULL;
                _cleanup_free_ char *text = format_string("[Store]\nKind=postgresql\nURI=%s\n", uris[i].uri);
                write_file(place, "etc/stonechat.conf", text);
                place->problems[0] = '\0';
                assert_int_equal(load(place, NULL, &conf), uris[i].has_password ? -EINVAL : 0);
                assert_string_equal(conf->store_uri, uris[i].has_password ? "" : uris[i].uri);
                assert_null(strstr(place->problems, "secret"));
                assert_true(!strstr(place->problems, "stonechat.conf:3: Store.URI: holds a password") !=
                            uris[i].has_password);
        }
}

static void test_postgresql_needs_uri(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        Place *place = *state;

        write_file(place, "etc/stonechat.conf", "[Store]\nKind=postgresql\n");
        assert_int_equal(load(place, NULL, &conf), -EINVAL);
        assert_non_null(
                strstr(place->problems, "etc/stonechat.conf:2: Store.Kind: postgresql needs Store.URI="));
}

static void test_unreadable(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        Place *place = *state;
        _cleanup_free_ char *path = format_string("%s/etc/stonechat.conf.d/60-x.conf", place->base);

        assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(load(place, NULL, &conf), -EISDIR);
        assert_null(conf);
        assert_string_equal(
                place->problems, "etc/stonechat.conf.d/60-x.conf: cannot be read: Is a directory\n");
}

static void test_reload(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        Place *place = *state;

        write_file(place, "etc/stonechat.conf",
                "[Api]\nMaxBody=1K\nMaxConnections=7\n[Store]\nReaders=3\n[Log]\nLevel=err\n");
        assert_int_equal(load(place, NULL, &conf), 0);
        assert_int_equal(reload(place, conf), 0);
        assert_string_equal(place->problems, "");

        write_file(place, "etc/stonechat.conf",
                "[Api]\nMaxBody=much\nMaxConnections=8\n[Store]\nReaders=4\n[Log]\nLevel=debug\n");
        assert_int_equal(reload(place, conf), 2);
        assert_string_equal(place->problems,
                "etc/stonechat.conf:2: Api.MaxBody: \"much\" is not a size such as 65536, 64K or 1M\n"
                "etc/stonechat.conf:5: Store.Readers: takes effect after a restart\n");
        assert_int_equal(conf->api_max_body, 1024); /* the old value, not the default */
        assert_int_equal(conf->api_max_connections, 8);
        assert_int_equal(conf->store_readers, 3);
        assert_string_equal(conf->log_level, "debug");
        assert_non_null(strstr(conf->sources[3], "etc/stonechat.conf:3"));

        /* Nothing stands there any more: back to the defaults. */
        write_file(place, "etc/stonechat.conf", "");
        assert_int_equal(reload(place, conf), 3);
        assert_int_equal(conf->api_max_body, 256 * 1024);
        assert_null(conf->sources[3]);
        assert_string_equal(place->problems, "default: Store.Readers: takes effect after a restart\n");
}

static void test_reload_fails_as_a_whole(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        Place *place = *state;
        _cleanup_free_ char *path = format_string("%s/etc/stonechat.conf.d/60-x.conf", place->base);

        write_file(place, "etc/stonechat.conf", "[Api]\nMaxBody=1K\n");
        assert_int_equal(load(place, NULL, &conf), 0);
        write_file(place, "etc/stonechat.conf", "[Api]\nMaxBody=2K\n");
        assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(reload(place, conf), -EISDIR);
        assert_int_equal(conf->api_max_body, 1024);
}

static void test_format(void **state) {
        static const struct {
                const char *text, *formatted;
        } cases[] = {
                {"90min", "1h 30min"},
                {"11500ms", "11s 500ms"},
                {"86400", "1d"},
                {"10s 1us", "10s 1us"},
        };
        const ConfKey *key = NULL;
        Place *place = *state;

        FOREACH_ARRAY(k, conf_keys, conf_n_keys)
                if (streq(k->name, "AccessTokenSec"))
                        key = k;
        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_(conf_freep) Conf *conf = NULL;
                _cleanup_free_ char *content = format_string("[Auth]\nAccessTokenSec=%s\n", c->text);
                write_file(place, "etc/stonechat.conf", content);
                assert_int_equal(load(place, NULL, &conf), 0);
                _cleanup_free_ char *text = conf_format(conf, key);
                assert_string_equal(text, c->formatted);
        }
}

/* The example, with its keys uncommented, is a valid configuration that changes nothing. */
static void test_example(void **state) {
        _cleanup_(conf_freep) Conf *conf = NULL, *defaults = NULL;
        _cleanup_free_ char *text = NULL;
        Place *place = *state;
        size_t size, n_set = 0;

        assert_int_equal(load(place, NULL, &defaults), 0);
        FILE *f = open_memstream(&text, &size);
        conf_write_example(f);
        fclose(f);
        for (char *p = text; (p = strchr(p, '\n')); p++)
                if (p[1] == '#' && p[2] != ' ' && p[2] != '\n')
                        p[1] = ' ';
        write_file(place, "etc/stonechat.conf", text);
        assert_int_equal(load(place, NULL, &conf), 0);
        assert_string_equal(place->problems, "");
        for (size_t i = 0; i < conf_n_keys; i++) {
                _cleanup_free_ char *a = conf_format(conf, &conf_keys[i]);
                _cleanup_free_ char *b = conf_format(defaults, &conf_keys[i]);
                assert_string_equal(a, b);
                n_set += conf->sources[i] != NULL;
        }
        assert_int_equal(n_set, conf_n_keys);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_defaults),
                TEST(test_table),
                TEST(test_order),
                TEST(test_masking),
                TEST(test_bad_values),
                TEST(test_unknown_is_ignored),
                TEST(test_syntax_error),
                TEST(test_empty_resets),
                TEST(test_lists),
                TEST(test_environment),
                TEST(test_sqlite_has_no_peers),
                TEST(test_store_uri),
                TEST(test_postgresql_needs_uri),
                TEST(test_unreadable),
                TEST(test_reload),
                TEST(test_reload_fails_as_a_whole),
                TEST(test_format),
                TEST(test_example),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
