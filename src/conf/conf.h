/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Configuration: one table declares every key once (conf-table.c): section, name, type, range, default,
 * whether a reload applies it, help text. The man page stonechat.conf(5), the commented conf/stonechat.conf
 * and `stonechatctl config` come from that table.
 *
 * Sources, later ones win: the defaults; stonechat.conf, the first found of /etc/stonechat, /run/stonechat,
 * /usr/lib/stonechat; drop-ins stonechat.conf.d/\*.conf of all three, sorted by file name, a name in /etc
 * masking the same name in /run and /usr/lib, an empty file or a link to /dev/null masking too (UAPI.6);
 * then STONECHAT_SECTION_KEY= in the environment, all in capitals: STONECHAT_API_MAXBODY=.
 *
 * A bad value is reported with file, line and key and keeps what stood before: the default at start (the
 * role refuses to start), the old value on reload. Secrets are never configuration: they are credentials. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "util/macro.h"

/* The values in force. Strings are owned here and never NULL; a reload replaces them. A list holds its words
 * one space apart. 0 means "no limit" where a key's range allows it. */
typedef struct Conf {
        /* [Api] */
        uint64_t api_max_body;
        uint64_t api_max_headers;
        uint64_t api_pending_memory; /* bytes of requests that are not complete, all together */
        uint64_t api_request_timeout_usec;
        uint64_t api_max_connections, api_max_connections_per_address;
        uint64_t api_login_rate, api_login_burst; /* attempts a minute an address; how many at once */
        uint64_t api_login_account_rate, api_login_account_burst; /* the same for one account */
        char *api_allowed_origins; /* list; empty: none but our own; "*": any */
        char *api_trusted_proxies; /* list of addresses whose X-Forwarded-For is believed */
        bool api_registration;
        /* [Auth] */
        uint64_t auth_access_token_usec, auth_refresh_token_usec;
        uint64_t auth_refresh_grace_usec; /* in which a spent refresh token is answered again */
        uint64_t auth_hash_memory, auth_hash_operations, auth_hash_threads, auth_hash_queue;
        uint64_t auth_max_sessions; /* of one user; one more ends the one unused for longest */
        /* [Socket] */
        char *socket_allowed_origins; /* list; empty: same host only; "*": any */
        uint64_t socket_max_frame;
        uint64_t socket_pending_memory; /* bytes of connections that have not signed in, all together */
        uint64_t socket_handshake_timeout_usec, socket_ping_interval_usec, socket_pong_timeout_usec;
        uint64_t socket_max_queue; /* bytes waiting for one connection */
        uint64_t socket_max_conversations; /* that one connection hears */
        uint64_t socket_max_connections, socket_max_connections_per_address, socket_max_connections_per_user;
        /* [Limits] */
        uint64_t limits_user_rate, limits_user_burst; /* calls a second; how many at once */
        uint64_t limits_address_rate, limits_address_burst;
        /* [Group] */
        uint64_t group_max_recovery; /* messages of one conversation that a reconnect replays */
        uint64_t group_max_unanswered, group_max_strangers, group_max_conversations; /* of one user */
        uint64_t group_cache_conversations; /* kept in memory while idle */
        /* [Store] */
        char *store_kind; /* "sqlite", "postgresql" */
        char *store_uri; /* of postgresql */
        uint64_t store_timeout_usec;
        uint64_t store_readers, store_batch_operations, store_queue;
        /* [Rpc] */
        uint64_t rpc_timeout_usec;
        /* [Cluster] */
        char *cluster_peers; /* list, empty: one host */
        /* [Log] */
        char *log_level;
        uint64_t log_trace_rate; /* a second, of all */
        uint64_t log_trace_user_rate; /* a minute, of one user or address */
        /* where each came from, for `stonechatctl config`: parallel to conf_keys[]; NULL: default */
        char **sources;
} Conf;

typedef enum ConfType {
        CONF_BOOLEAN, /* bool */
        CONF_UNSIGNED, /* uint64_t */
        CONF_SIZE, /* uint64_t, bytes; K, M, G allowed */
        CONF_DURATION, /* uint64_t, microseconds; written as in systemd.time(7) */
        CONF_STRING, /* char *; `choices` may restrict it */
        CONF_LIST, /* char *; accumulates, an empty assignment resets */
} ConfType;

typedef struct ConfKey {
        const char *section, *name;
        ConfType type;
        size_t offset; /* in Conf */
        const char *default_value;
        uint64_t min, max; /* of numbers, in the unit stored */
        const char *const *choices; /* of strings, NULL-terminated */
        bool reloadable;
        const char *help; /* one or more sentences, for the man page */
} ConfKey;

extern const ConfKey conf_keys[];
extern const size_t conf_n_keys;

/* Hears of every problem: a whole sentence that begins with FILE:LINE: or the variable's name. */
typedef void (*ConfReport)(const char *problem, void *userdata);

/* Where to look; NULL in dirs: the standard three. Tests give their own. */
typedef struct ConfSource {
        const char *const *dirs; /* NULL-terminated, most important first */
        char *const *environment; /* as environ; NULL: none */
} ConfSource;

/* Loads everything. Unknown keys and sections are reported and ignored; -EINVAL if some line or value was
 * bad (reported; *ret is set then too, with the defaults in the bad places, so that a reload can go on),
 * -ENOMEM, or what reading a file that is there says. */
int conf_load(const ConfSource *source, ConfReport report, void *userdata, Conf **ret);
Conf *conf_free(Conf *conf);
DEFINE_CLEANUP(Conf *, conf_free);

/* Loads anew and changes *conf in place: takes what is good and reloadable, keeps the old value where the
 * new one is bad, and reports what needs a restart. The number of values that changed; -ENOMEM, or what
 * reading a file that is there says, and then nothing has changed. */
int conf_reload(Conf *conf, const ConfSource *source, ConfReport report, void *userdata);

/* The value of a key as a user would write it; caller frees. */
char *conf_format(const Conf *conf, const ConfKey *key);

/* stonechat.conf with every key commented out, or the table part of stonechat.conf(5). */
void conf_write_example(FILE *out);
void conf_write_manual(FILE *out);

/* Is this word in the list? */
bool conf_list_contains(const char *list, const char *word);
