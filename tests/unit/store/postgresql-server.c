/* SPDX-License-Identifier: Apache-2.0 */
#include "postgresql-server.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/macro.h"
#include "util/time-util.h"

#define PROGRAMS "/usr/lib/postgresql/15/bin"
#define START_SEC 60
#define EXIT_SKIPPED 77

static char directory[] = "/tmp/store-postgresql-XXXXXX";
static char uri[256];
static pid_t server;

/* --- processes --- */

/* The server refuses to run as root. */
static void become_ordinary(void) {
        const struct passwd *user = geteuid() == 0 ? getpwnam("nobody") : NULL;

        if (user && (setgid(user->pw_gid) < 0 || setuid(user->pw_uid) < 0))
                _exit(EXIT_FAILURE);
        /* Behind the change of user, which resets it. */
        prctl(PR_SET_PDEATHSIG, SIGQUIT);
}

static pid_t run(const char *const *command) {
        pid_t pid = fork();

        if (pid != 0)
                return pid;
        become_ordinary();
        int log = open("log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log < 0 || dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
                _exit(EXIT_FAILURE);
        execv(command[0], (char *const *) command);
        _exit(EXIT_FAILURE);
}

static bool run_and_wait(const char *const *command) {
        int status;
        pid_t pid = run(command);

        return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void print_log(void) {
        char line[512];
        FILE *log = fopen("log", "re");

        while (log && fgets(line, sizeof(line), log))
                fputs(line, stderr);
        if (log)
                fclose(log);
}

/* --- the server --- */

static bool is_answering(void) {
        uint64_t end = boottime_usec() + START_SEC * USEC_PER_SEC;

        while (boottime_usec() < end && waitpid(server, NULL, WNOHANG) == 0) {
                if (PQping(uri) == PQPING_OK)
                        return true;
                usleep(5000); /* nothing tells when it is ready */
        }
        return false;
}

static bool start(void) {
        char sockets[sizeof(directory) + 32];
        const char *const command[] = {PROGRAMS "/postgres", "-D", "data", "-c", "listen_addresses=", "-c",
                sockets, "-c", "max_connections=50", "-c", "shared_buffers=32MB", "-c",
                "log_min_messages=warning", "-c", "log_min_error_statement=panic", "-c", "fsync=off",
                /* nobody pulls the plug */ NULL};

        snprintf(sockets, sizeof(sockets), "unix_socket_directories=%s", directory);
        server = run(command);
        return server > 0 && is_answering();
}

void postgresql_start(void) {
        assert_true(start());
}

void postgresql_stop(int signal) {
        kill(server, signal);
        waitpid(server, NULL, 0);
        server = 0;
}

const char *postgresql_uri(void) {
        return uri;
}

PGconn *postgresql_connect(void) {
        const char *const keywords[] = {"dbname", "password", NULL};
        const char *const values[] = {uri, POSTGRESQL_PASSWORD, NULL};
        PGconn *conn = PQconnectdbParams(keywords, values, 1);

        if (PQstatus(conn) != CONNECTION_OK)
                fail_msg("%s", PQerrorMessage(conn));
        return conn;
}

long postgresql_query(const char *sql) {
        PGconn *conn = postgresql_connect();
        PGresult *result = PQexec(conn, sql);
        ExecStatusType status = PQresultStatus(result);

        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
                fail_msg("%s: %s", sql, PQerrorMessage(conn));
        long value = PQntuples(result) > 0 ? strtol(PQgetvalue(result, 0, 0), NULL, 10) : 0;
        PQclear(result);
        PQfinish(conn);
        return value;
}

StoreConfig postgresql_config(const Fixture *f) {
        return (StoreConfig){
                .kind = "postgresql",
                .name = strrchr(f->directory, '/') + 1,
                .uri = uri,
                .password = POSTGRESQL_PASSWORD,
                .records = fixture_records,
                .n_readers = 2,
                .batch_operations = 64,
                .max_queued = 1000,
                .timeout_usec = 10 * USEC_PER_SEC,
        };
}

/* --- its directory --- */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
        return remove(path);
}

/* The current directory becomes the server's: the path of its socket is short, and the programs find it. */
static bool make_directory(void) {
        const struct passwd *user = getpwnam("nobody");

        return mkdtemp(directory) && chdir(directory) == 0 &&
               (geteuid() != 0 || (user && chown(".", user->pw_uid, user->pw_gid) == 0));
}

static bool write_file(const char *name, const char *text) {
        FILE *file = fopen(name, "we");
        return file && fchmod(fileno(file), 0644) == 0 && fputs(text, file) >= 0 && fclose(file) == 0;
}

static bool create(void) {
        static const char *const command[] = {PROGRAMS "/initdb", "-D", "data", "-U", "stonechat",
                "--pwfile=password", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
                "--no-instructions", NULL};

        return make_directory() && write_file("password", POSTGRESQL_PASSWORD "\n") && run_and_wait(command);
}

int postgresql_run(int (*tests)(void)) {
        int r = EXIT_FAILURE;

        if (access(PROGRAMS "/initdb", X_OK) < 0) {
                fputs("PostgreSQL 15 is not installed.\n", stderr);
                return EXIT_SKIPPED;
        }
        if (create() &&
                snprintf(uri, sizeof(uri), "postgresql://stonechat@/postgres?host=%s", directory) > 0 &&
                start())
                r = tests();
        if (r != 0)
                print_log();
        if (server > 0)
                postgresql_stop(SIGQUIT);
        if (chdir("/") == 0)
                nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        return r;
}
