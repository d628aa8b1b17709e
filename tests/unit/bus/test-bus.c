/* SPDX-License-Identifier: Apache-2.0 */

/* The objects of a role, seen by another connection on a private bus. */

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bus/bus.h"
#include "log/log.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define NAME "org.stonechat.Test"
#define PROPERTIES "org.freedesktop.DBus.Properties"
#define LOG_CONTROL_PATH "/org/freedesktop/LogControl1"
#define LOG_CONTROL "org.freedesktop.LogControl1"
#define PATIENCE_USEC (20 * USEC_PER_SEC)

typedef struct Fixture {
        char directory[64], address[128];
        pid_t daemon;
        sd_event *event;
        sd_bus *role, *client;
        bool healthy;
        unsigned n_reloads, n_signals;
        char credentials[64];
        sd_bus_message *reply;
} Fixture;

static bool healthy(void *userdata) {
        return ((Fixture *) userdata)->healthy;
}

static const char *status(void *userdata) {
        return "Serving";
}

static size_t statistics(BusStatistic *ret, size_t max, void *userdata) {
        assert_true(max >= 2);
        ret[0] = (BusStatistic){"connections", 7};
        ret[1] = (BusStatistic){"bytes", UINT64_MAX};
        return 2;
}

static void reload(sd_bus_message *call, void *userdata) {
        ((Fixture *) userdata)->n_reloads++;
        bus_reload_done(call, 2, "first\nsecond\n");
}

static int credential(const char *name, int fd, void *userdata) {
        Fixture *f = userdata;
        size_t n = strlen(f->credentials);
        char content[8] = "";

        if (streq(name, "bad"))
                return -EINVAL;
        assert_true(read(fd, content, sizeof(content) - 1) >= 0);
        snprintf(f->credentials + n, sizeof(f->credentials) - n, "%s=%s ", name, content);
        return 0;
}

static const BusRoleHandlers handlers = {.role = "test",
        .healthy = healthy,
        .status = status,
        .statistics = statistics,
        .reload = reload,
        .credential = credential};

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        ((Fixture *) userdata)->reply = sd_bus_message_ref(reply);
        return 0;
}

static int on_signal(sd_bus_message *signal, void *userdata, sd_bus_error *error) {
        ((Fixture *) userdata)->n_signals++;
        return 0;
}

static void turn(Fixture *f, uint64_t end) {
        assert_true(boottime_usec() < end);
        assert_true(sd_event_run(f->event, 50 * USEC_PER_MSEC) >= 0);
}

/* Sends it and waits for the answer, while the role answers on the same loop. Caller unrefs. */
static sd_bus_message *call(
        Fixture *f, const char *path, const char *interface, const char *member, const char *types, ...) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        uint64_t end = boottime_usec() + PATIENCE_USEC;
        va_list ap;

        assert_true(sd_bus_message_new_method_call(f->client, &m, NAME, path, interface, member) >= 0);
        va_start(ap, types);
        assert_true(isempty(types) || sd_bus_message_appendv(m, types, ap) >= 0);
        va_end(ap);
        assert_true(sd_bus_call_async(f->client, NULL, m, on_reply, f, 0) >= 0);
        while (!f->reply)
                turn(f, end);
        return TAKE_PTR(f->reply);
}

static pid_t start_daemon(const Fixture *f) {
        _cleanup_free_ char *argument = format_string("--address=%s", f->address);

        pid_t child = fork();
        if (child == 0) {
                int null = open("/dev/null", O_WRONLY);
                dup2(null, STDERR_FILENO);
                execlp("dbus-daemon", "dbus-daemon", "--session", "--nofork", "--nopidfile", argument, NULL);
                _exit(127);
        }
        return child;
}

static int set_up(void **state) {
        Fixture *f = new0(Fixture, 1);

        strcpy(f->directory, "/tmp/test-bus-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        snprintf(f->address, sizeof(f->address), "unix:path=%s/bus", f->directory);
        setenv("DBUS_SYSTEM_BUS_ADDRESS", f->address, true);
        assert_true(sd_event_new(&f->event) >= 0);
        f->daemon = start_daemon(f);
        assert_true(f->daemon > 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;
        char path[128];

        sd_bus_flush_close_unref(f->role);
        sd_bus_flush_close_unref(f->client);
        sd_event_unref(f->event);
        kill(f->daemon, SIGTERM);
        waitpid(f->daemon, NULL, 0);
        snprintf(path, sizeof(path), "%s/bus", f->directory);
        unlink(path);
        rmdir(f->directory);
        free(f);
        return 0;
}

static void connect_both(Fixture *f) {
        uint64_t end = boottime_usec() + PATIENCE_USEC;
        char path[128];

        snprintf(path, sizeof(path), "%s/bus", f->directory);
        while (access(path, F_OK) < 0) {
                siginfo_t info = {};
                if (waitid(P_PID, (id_t) f->daemon, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
                        info.si_pid != 0)
                        skip(); /* there is no dbus-daemon here */
                assert_true(boottime_usec() < end);
                usleep(10 * USEC_PER_MSEC);
        }
        assert_int_equal(bus_open(f->event, &f->role), 1);
        assert_int_equal(bus_open(f->event, &f->client), 1);
        assert_int_equal(bus_export_role(f->role, NAME, &handlers, f, NULL), 0);
        assert_true(sd_bus_match_signal(f->client, NULL, NULL, BUS_ROLE_PATH, PROPERTIES,
                            "PropertiesChanged", on_signal, f) >= 0);
        for (;;) { /* until the name is there */
                _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply =
                        call(f, BUS_ROLE_PATH, "org.freedesktop.DBus.Peer", "Ping", NULL);
                if (!sd_bus_message_is_method_error(reply, NULL))
                        break;
                turn(f, end);
        }
}

static void test_role(void **state) {
        Fixture *f = *state;
        const char *text, *name;
        uint64_t value;
        int flag;

        connect_both(f);
        f->healthy = true;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply =
                call(f, BUS_ROLE_PATH, PROPERTIES, "Get", "ss", BUS_ROLE_INTERFACE, "Healthy");
        assert_true(sd_bus_message_read(reply, "v", "b", &flag) >= 0);
        assert_true(flag);

        _cleanup_(sd_bus_message_unrefp) sd_bus_message *all =
                call(f, BUS_ROLE_PATH, PROPERTIES, "GetAll", "s", BUS_ROLE_INTERFACE);
        assert_true(sd_bus_message_enter_container(all, 'a', "{sv}") > 0);
        const char *const expected[] = {"Role", "test", "Version", STONECHAT_VERSION};
        for (size_t i = 0; i < 4; i += 2) {
                assert_true(sd_bus_message_read(all, "{sv}", &name, "s", &text) > 0);
                assert_string_equal(name, expected[i]);
                assert_string_equal(text, expected[i + 1]);
        }
        assert_true(sd_bus_message_read(all, "{sv}", &name, "b", &flag) > 0);
        assert_true(sd_bus_message_read(all, "{sv}", &name, "s", &text) > 0);
        assert_string_equal(text, "Serving");
        const char *first, *second;
        uint64_t bytes;
        assert_true(
                sd_bus_message_read(all, "{sv}", &name, "a{st}", 2, &first, &value, &second, &bytes) > 0);
        assert_string_equal(first, "connections");
        assert_true(value == 7 && bytes == UINT64_MAX);
}

static void test_changes(void **state) {
        Fixture *f = *state;
        uint64_t end = boottime_usec() + PATIENCE_USEC;

        connect_both(f);
        bus_role_changed(f->role);
        while (f->n_signals == 0)
                turn(f, end);
}

static void test_reload(void **state) {
        Fixture *f = *state;
        const char *problems;
        uint32_t n;

        connect_both(f);
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply =
                call(f, BUS_ROLE_PATH, BUS_ROLE_INTERFACE, "Reload", NULL);
        assert_true(sd_bus_message_read(reply, "us", &n, &problems) >= 0);
        assert_int_equal(n, 2);
        assert_string_equal(problems, "first\nsecond\n");
        assert_int_equal(f->n_reloads, 1);
}

static int make_file(const char *content) {
        int fd = memfd_create("credential", MFD_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, content, strlen(content)), strlen(content));
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        return fd;
}

static void test_reload_with_credentials(void **state) {
        Fixture *f = *state;
        const char *problems;
        uint32_t n;

        connect_both(f);
        _cleanup_close_ int one = make_file("1"), two = make_file("2");
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = call(f, BUS_ROLE_PATH, BUS_ROLE_INTERFACE,
                "ReloadCredentials", "a{sh}", 2, "one", one, "two", two);
        assert_true(sd_bus_message_read(reply, "us", &n, &problems) >= 0);
        assert_int_equal(n, 2);
        assert_string_equal(f->credentials, "one=1 two=2 ");
        assert_int_equal(f->n_reloads, 1);
        /* One that is refused refuses all. */
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *refused =
                call(f, BUS_ROLE_PATH, BUS_ROLE_INTERFACE, "ReloadCredentials", "a{sh}", 1, "bad", one);
        assert_true(sd_bus_message_is_method_error(refused, NULL));
        assert_int_equal(f->n_reloads, 1);
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *none =
                call(f, BUS_ROLE_PATH, BUS_ROLE_INTERFACE, "ReloadCredentials", "a{sh}", 0);
        assert_false(sd_bus_message_is_method_error(none, NULL));
        assert_int_equal(f->n_reloads, 2);
}

static void send_signal(Fixture *f, const char *destination) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

        assert_true(
                sd_bus_message_new_signal(f->client, &m, "/somewhere", "org.example.Some", "Thing") >= 0);
        assert_true(!destination || sd_bus_message_set_destination(m, destination) >= 0);
        assert_true(sd_bus_send(f->client, m, NULL) >= 0);
}

/* A match that asks for the owner of a name takes what anybody directs to us; bus_open() sees to that. */
static void test_directed_signals(void **state) {
        Fixture *f = *state;
        uint64_t end = boottime_usec() + PATIENCE_USEC;
        const char *own;

        connect_both(f);
        assert_true(sd_bus_get_unique_name(f->role, &own) >= 0);
        assert_true(sd_bus_match_signal_async(f->role, NULL, NULL, "/somewhere", "org.example.Some", "Thing",
                            on_signal, NULL, f) >= 0);
        assert_true(sd_bus_match_signal_async(f->role, NULL, NAME, "/somewhere", "org.example.Some", "Thing",
                            on_signal, NULL, f) >= 0);
        send_signal(f, NAME);
        send_signal(f, own);
        /* The role's matches are in force once its next question was answered; the broadcast comes last. */
        while (f->n_signals == 0) {
                send_signal(f, NULL);
                sd_bus_message_unref(call(f, BUS_ROLE_PATH, "org.freedesktop.DBus.Peer", "Ping", NULL));
                assert_true(boottime_usec() < end);
        }
        unsigned n = f->n_signals;
        send_signal(f, NAME);
        send_signal(f, own);
        sd_bus_message_unref(call(f, BUS_ROLE_PATH, "org.freedesktop.DBus.Peer", "Ping", NULL));
        assert_int_equal(f->n_signals, n);
}

static void test_log_control(void **state) {
        Fixture *f = *state;
        const char *text;

        connect_both(f);
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *set =
                call(f, LOG_CONTROL_PATH, PROPERTIES, "Set", "ssv", LOG_CONTROL, "LogLevel", "s", "err");
        assert_false(sd_bus_message_is_method_error(set, NULL));
        assert_int_equal(log_get_level(), LOG_ERR);
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *get =
                call(f, LOG_CONTROL_PATH, PROPERTIES, "Get", "ss", LOG_CONTROL, "LogLevel");
        assert_true(sd_bus_message_read(get, "v", "s", &text) >= 0);
        assert_string_equal(text, "err");
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *bad =
                call(f, LOG_CONTROL_PATH, PROPERTIES, "Set", "ssv", LOG_CONTROL, "LogLevel", "s", "loud");
        assert_true(sd_bus_message_is_method_error(bad, SD_BUS_ERROR_INVALID_ARGS));
        assert_int_equal(log_get_level(), LOG_ERR);
        log_set_level(LOG_INFO);

        _cleanup_(sd_bus_message_unrefp) sd_bus_message *target =
                call(f, LOG_CONTROL_PATH, PROPERTIES, "Get", "ss", LOG_CONTROL, "LogTarget");
        assert_true(sd_bus_message_read(target, "v", "s", &text) >= 0);
        assert_string_equal(text, log_get_target());
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *other =
                call(f, LOG_CONTROL_PATH, PROPERTIES, "Set", "ssv", LOG_CONTROL, "LogTarget", "s", "kmsg");
        assert_true(sd_bus_message_is_method_error(other, SD_BUS_ERROR_NOT_SUPPORTED));
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *identifier =
                call(f, LOG_CONTROL_PATH, PROPERTIES, "Get", "ss", LOG_CONTROL, "SyslogIdentifier");
        assert_true(sd_bus_message_read(identifier, "v", "s", &text) >= 0);
        assert_string_equal(text, "stonechat-test");
}

static void test_no_bus(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        sd_bus *bus = (sd_bus *) 0x1;

        setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus", true);
        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(bus_open(event, &bus), 0);
        assert_null(bus);
        assert_int_equal(bus_export_role(bus, NAME, &handlers, NULL, NULL), 0);
        bus_role_changed(bus);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_role),
                TEST(test_changes),
                TEST(test_reload),
                TEST(test_reload_with_credentials),
                TEST(test_directed_signals),
                TEST(test_log_control),
                cmocka_unit_test(test_no_bus),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
