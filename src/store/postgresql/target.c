/* SPDX-License-Identifier: Apache-2.0 */
#include "store/postgresql/target.h"

#include <netdb.h>
#include <poll.h>
#include <stdio.h>

#include "log/log.h"
#include "util/bytes.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define MAX_KEYWORDS 64U

struct PgTarget {
        const char *keywords[MAX_KEYWORDS + 1]; /* NULL-terminated, as libpq wants them */
        char *values[MAX_KEYWORDS + 1];
        unsigned n;
};

PgTarget *pg_target_free(PgTarget *target) {
        if (!target)
                return NULL;
        for (unsigned i = 0; i < target->n; i++) {
                explicit_bzero(target->values[i], strlen(target->values[i]));
                free((char *) target->keywords[i]);
                free(target->values[i]);
        }
        return mfree(target);
}

static int set(PgTarget *target, const char *keyword, const char *value) {
        for (unsigned i = 0; i < target->n; i++)
                if (streq(target->keywords[i], keyword)) {
                        char *copy = strdup(value);
                        if (!copy)
                                return -ENOMEM;
                        free(target->values[i]);
                        target->values[i] = copy;
                        return 0;
                }
        if (target->n == MAX_KEYWORDS)
                return -E2BIG;
        _cleanup_free_ char *name = strdup(keyword), *copy = strdup(value);
        if (!name || !copy)
                return -ENOMEM;
        target->keywords[target->n] = TAKE_PTR(name);
        target->values[target->n++] = TAKE_PTR(copy);
        return 0;
}

static const char *get(const PgTarget *target, const char *keyword) {
        for (unsigned i = 0; i < target->n; i++)
                if (streq(target->keywords[i], keyword))
                        return target->values[i];
        return "";
}

static int set_default(PgTarget *target, const char *keyword, const char *value) {
        return isempty(get(target, keyword)) ? set(target, keyword, value) : 0;
}

/* What libpq says of a malformed URI repeats parts of it, so it is not logged: a password may be among them. */
static int parse_uri(PgTarget *target, const char *uri) {
        char *problem = NULL;
        int r = 0;

        PQconninfoOption *options = PQconninfoParse(uri, &problem);
        PQfreemem(problem);
        if (!options) {
                log_error("[Store] URI= is no connection string of PostgreSQL "
                          "(postgresql://user@host/database)");
                return -EINVAL;
        }
        for (PQconninfoOption *option = options; option->keyword && r >= 0; option++) {
                if (isempty(option->val))
                        continue;
                if (streq(option->keyword, "password") || streq(option->keyword, "sslpassword")) {
                        log_error("[Store] URI= holds a password; give it as the credential store.password");
                        r = -EINVAL;
                } else
                        r = set(target, option->keyword, option->val);
        }
        PQconninfoFree(options);
        return r;
}

/* --- names --- */

typedef struct Places {
        Buffer hosts, addresses, ports; /* lists with commas, of equal length */
        unsigned n;
} Places;

static void add_place(Places *places, const char *host, const char *address, const char *port) {
        const char *comma = places->n++ > 0 ? "," : "";

        (void) buffer_append_string(&places->hosts, comma);
        (void) buffer_append_string(&places->hosts, host);
        (void) buffer_append_string(&places->addresses, comma);
        (void) buffer_append_string(&places->addresses, address);
        (void) buffer_append_string(&places->ports, comma);
        (void) buffer_append_string(&places->ports, port);
}

static int add_host(Places *places, const char *host, const char *port) {
        static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
        struct addrinfo *found;
        char address[NI_MAXHOST];

        if (isempty(host) || *host == '/' || *host == '@') { /* a socket in the file system */
                add_place(places, host, "", port);
                return 0;
        }
        int error = getaddrinfo(host, NULL, &hints, &found);
        if (error != 0) {
                log_error("Failed to resolve the store's host %s: %s", host, gai_strerror(error));
                return -ENOTCONN;
        }
        for (struct addrinfo *i = found; i; i = i->ai_next)
                if (getnameinfo(i->ai_addr, i->ai_addrlen, address, sizeof(address), NULL, 0,
                            NI_NUMERICHOST) == 0)
                        add_place(places, host, address, port);
        freeaddrinfo(found);
        return 0;
}

/* The next element of a list with commas. */
static char *next_element(char **list) {
        char *element = strsep(list, ",");
        return element ?: (char *) "";
}

static int add_hosts(Places *places, const PgTarget *target) {
        _cleanup_free_ char *hosts = strdup(get(target, "host")), *ports = strdup(get(target, "port"));
        if (!hosts || !ports)
                return -ENOMEM;
        char *host_list = hosts, *port_list = ports;
        bool one_port = !strchr(ports, ',');
        while (host_list) {
                char *host = next_element(&host_list);
                int r = add_host(places, host, one_port ? ports : next_element(&port_list));
                if (r < 0)
                        return r;
        }
        return 0;
}

static int set_places(PgTarget *target, Places *places) {
        (void) buffer_append(&places->hosts, "", 1);
        (void) buffer_append(&places->addresses, "", 1);
        (void) buffer_append(&places->ports, "", 1);
        if (places->hosts.error < 0 || places->addresses.error < 0 || places->ports.error < 0)
                return -ENOMEM;
        int r = set(target, "host", (char *) places->hosts.data);
        if (r >= 0)
                r = set(target, "hostaddr", (char *) places->addresses.data);
        if (r >= 0)
                r = set(target, "port", (char *) places->ports.data);
        return r;
}

static int resolve(PgTarget *target) {
        Places places = {};

        if (!isempty(get(target, "hostaddr")) || isempty(get(target, "host")))
                return 0;
        int r = add_hosts(&places, target);
        if (r >= 0)
                r = set_places(target, &places);
        buffer_done(&places.hosts);
        buffer_done(&places.addresses);
        buffer_done(&places.ports);
        return r;
}

/* --- */

static int set_defaults(PgTarget *target, const StoreConfig *config) {
        _cleanup_free_ char *application = format_string("stonechat %s", config->name);
        _cleanup_free_ char *silence =
                format_string("%llu", (unsigned long long) (config->timeout_usec / USEC_PER_MSEC));
        if (!application || !silence)
                return -ENOMEM;
        const char *const defaults[][2] = {
                {"application_name", application},
                {"client_encoding", "UTF8"},
                /* Of several servers the one that takes writes. */
                {"target_session_attrs", "read-write"},
                /* Looking for Kerberos credentials blocks. */
                {"gssencmode", "disable"},
                {"tcp_user_timeout", silence},
        };
        FOREACH_ARRAY(pair, defaults, ELEMENTSOF(defaults)) {
                int r = set_default(target, (*pair)[0], (*pair)[1]);
                if (r < 0)
                        return r;
        }
        return isempty(config->password) ? 0 : set(target, "password", config->password);
}

int pg_target_new(PgTarget **ret, const StoreConfig *config) {
        _cleanup_(pg_target_freep) PgTarget *target = new0(PgTarget, 1);
        if (!target)
                return -ENOMEM;
        int r = parse_uri(target, strempty(config->uri));
        if (r >= 0)
                r = resolve(target);
        if (r >= 0)
                r = set_defaults(target, config);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(target);
        return 0;
}

PGconn *pg_target_connect(const PgTarget *target) {
        PGconn *conn = PQconnectStartParams(target->keywords, (const char *const *) target->values, 0);
        /* The message of a refusal then has the error's code in it. */
        if (conn)
                PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
        return conn;
}

static int wait_for(PGconn *conn, PostgresPollingStatusType direction, uint64_t deadline) {
        struct pollfd pollfd = {
                .fd = PQsocket(conn),
                .events = direction == PGRES_POLLING_READING ? POLLIN : POLLOUT,
        };
        uint64_t now = boottime_usec();

        if (now >= deadline)
                return -ETIMEDOUT;
        int r = poll(&pollfd, 1, (int) ((deadline - now) / USEC_PER_MSEC + 1));
        return r < 0 && errno != EINTR ? -errno : 0;
}

int pg_target_connect_wait(const PgTarget *target, uint64_t timeout_usec, PGconn **ret) {
        PostgresPollingStatusType status = PGRES_POLLING_WRITING;
        uint64_t deadline = boottime_usec() + timeout_usec;
        PGconn *conn = pg_target_connect(target);
        int r = conn ? 0 : -ENOMEM;

        while (r >= 0 && PQstatus(conn) != CONNECTION_BAD && status != PGRES_POLLING_OK &&
                status != PGRES_POLLING_FAILED) {
                r = wait_for(conn, status, deadline);
                if (r >= 0)
                        status = PQconnectPoll(conn);
        }
        if (r >= 0 && status == PGRES_POLLING_OK) {
                *ret = conn;
                return 0;
        }
        if (r >= 0) {
                char line[256];
                pg_error_line(conn, line, sizeof(line));
                r = pg_connect_error(conn);
                log_peer((.error_number = -r), r == -ENOTCONN ? LOG_WARNING : LOG_ERR,
                        "Failed to connect to the store: %s", line);
        } else if (r == -ETIMEDOUT)
                r = -ENOTCONN;
        PQfinish(conn);
        return r;
}

int pg_connect_error(const PGconn *conn) {
        const char *message = PQerrorMessage(conn);

        if (PQconnectionNeedsPassword(conn) || strstr(message, ":  28")) /* class 28: authorization */
                return -EACCES;
        return strstr(message, ":  3D000") ? -ENOENT : -ENOTCONN;
}

void pg_error_line(const PGconn *conn, char *line, size_t size) {
        snprintf(line, size, "%s", PQerrorMessage(conn));
        line[strcspn(line, "\n")] = '\0';
}
