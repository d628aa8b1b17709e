/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf.h"
#include "util/time-util.h"

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)
#define MINUTE (60 * USEC_PER_SEC)
#define DAY (86400 * USEC_PER_SEC)

static const char *const store_kinds[] = {"sqlite", "postgresql", NULL};
static const char *const log_levels[] = {"debug", "info", "notice", "warning", "err", NULL};

#define BOOLEAN(member, default_value) CONF_BOOLEAN, offsetof(Conf, member), default_value, 0, 0, NULL
#define UNSIGNED(member, default_value, min, max)                                                           \
        CONF_UNSIGNED, offsetof(Conf, member), default_value, min, max, NULL
#define SIZE(member, default_value, min, max)                                                               \
        CONF_SIZE, offsetof(Conf, member), default_value, min, max, NULL
#define DURATION(member, default_value, min, max)                                                           \
        CONF_DURATION, offsetof(Conf, member), default_value, min, max, NULL
#define CHOICE(member, default_value, choices)                                                              \
        CONF_STRING, offsetof(Conf, member), default_value, 0, 0, choices
#define TEXT(member, default_value) CONF_STRING, offsetof(Conf, member), default_value, 0, 0, NULL
#define LIST(member, default_value) CONF_LIST, offsetof(Conf, member), default_value, 0, 0, NULL

#define RELOAD true
#define RESTART false

/* Keys of a section stand together. */
const ConfKey conf_keys[] = {
        {"Api", "MaxBody", SIZE(api_max_body, "256K", 1 * KIB, 16 * MIB), RELOAD,
                "Largest body of a REST request; a larger one is refused with status 413."},
        {"Api", "MaxHeaders", SIZE(api_max_headers, "16K", 1 * KIB, 16 * KIB), RELOAD,
                "Largest request line and headers together; larger ones are refused with status 431."},
        {"Api", "RequestTimeoutSec",
                DURATION(api_request_timeout_usec, "10s", 1 * USEC_PER_SEC, 10 * MINUTE), RELOAD,
                "A request has to arrive within this time, counted from the connection's start or the "
                "answer before; one that does not is refused with status 408."},
        {"Api", "MaxConnections", UNSIGNED(api_max_connections, "2000", 0, 1000000), RELOAD,
                "Most HTTP connections at a time; 0: no limit but that of open files."},
        {"Api", "MaxConnectionsPerAddress", UNSIGNED(api_max_connections_per_address, "200", 0, 1000000),
                RELOAD,
                "Most HTTP connections of one address at a time; 0: no limit. Behind a proxy all "
                "connections "
                "come from the proxy's address."},
        {"Api", "PendingMemory", SIZE(api_pending_memory, "16M", 64 * KIB, 1 * GIB), RELOAD,
                "Memory for all requests together that have begun and are not complete. Beyond that the "
                "oldest of them are refused with status 503."},
        {"Api", "LoginRate", UNSIGNED(api_login_rate, "20", 0, 1000000), RELOAD,
                "Logins and registrations that one address may try a minute; 0: no limit. Logins of devices "
                "that signed in before do not count."},
        {"Api", "LoginBurst", UNSIGNED(api_login_burst, "20", 1, 1000000), RELOAD,
                "How many of these tries may come at once."},
        {"Api", "LoginAccountRate", UNSIGNED(api_login_account_rate, "5", 0, 1000000), RELOAD,
                "Logins to one account that may be tried a minute, from all addresses together; 0: no "
                "limit. Each device and address that signed in to the account before may try as often by "
                "itself, whatever the others do."},
        {"Api", "LoginAccountBurst", UNSIGNED(api_login_account_burst, "10", 1, 1000000), RELOAD,
                "How many of these tries may come at once."},
        {"Api", "AllowedOrigins", LIST(api_allowed_origins, ""), RELOAD,
                "Origins (such as https://chat.example.org) whose web pages may use the REST interface from "
                "a browser (CORS). \"*\" allows all of them. Pages that the same address serves need no "
                "entry."},
        {"Api", "TrustedProxies", LIST(api_trusted_proxies, ""), RELOAD,
                "Addresses of reverse proxies whose X-Forwarded-For header is believed. Without it a "
                "proxy's clients share the limits of one address."},
        {"Api", "Registration", BOOLEAN(api_registration, "yes"), RELOAD,
                "Whether anybody may register an account over the REST interface."},

        {"Auth", "AccessTokenSec", DURATION(auth_access_token_usec, "15min", 10 * USEC_PER_SEC, 1 * DAY),
                RELOAD,
                "How long an access token is valid. Shorter is safer; clients fetch a new one with their "
                "refresh token."},
        {"Auth", "RefreshTokenSec", DURATION(auth_refresh_token_usec, "30d", 1 * MINUTE, 3650 * DAY), RELOAD,
                "How long a device may stay away before it has to sign in again: the life of a refresh "
                "token, which is replaced at each use."},
        {"Auth", "RefreshGraceSec", DURATION(auth_refresh_grace_usec, "30s", 0, 10 * MINUTE), RELOAD,
                "For so long a refresh token that was used answers the same new one again, for clients "
                "whose "
                "answer was lost. Using it later ends the session."},
        {"Auth", "HashMemory", SIZE(auth_hash_memory, "19M", 8 * KIB, 1 * GIB), RELOAD,
                "Memory of one password hash (Argon2id). Passwords stored before keep their own cost until "
                "their owner signs in the next time."},
        {"Auth", "HashOperations", UNSIGNED(auth_hash_operations, "2", 1, 100), RELOAD,
                "Passes over that memory."},
        {"Auth", "HashThreads", UNSIGNED(auth_hash_threads, "2", 1, 64), RESTART,
                "Threads that hash passwords. Together they use at most HashThreads= times HashMemory=."},
        {"Auth", "HashQueue", UNSIGNED(auth_hash_queue, "64", 1, 100000), RESTART,
                "Passwords that may wait for a thread; beyond that logins are refused with status 503."},
        {"Auth", "MaxSessions", UNSIGNED(auth_max_sessions, "50", 1, 1000), RELOAD,
                "Most sessions of one user. One more login ends the session that was unused for longest."},

        {"Socket", "AllowedOrigins", LIST(socket_allowed_origins, ""), RELOAD,
                "Origins (such as https://chat.example.org) whose web pages may open a WebSocket. Empty: "
                "only pages from the same host. \"*\" allows all of them. Clients that are no browsers send "
                "no origin and are not concerned."},
        {"Socket", "MaxFrame", SIZE(socket_max_frame, "512K", 1 * KIB, 4 * MIB), RELOAD,
                "Largest WebSocket message that a client may send; a larger one closes the connection. A "
                "client that "
                "comes back tells its position in each conversation, some 160 bytes each, for as many as "
                "fit."},
        {"Socket", "PendingMemory", SIZE(socket_pending_memory, "16M", 64 * KIB, 1 * GIB), RELOAD,
                "Memory for all connections together that have not signed in. Beyond that the oldest of "
                "them are closed."},
        {"Socket", "HandshakeTimeoutSec",
                DURATION(socket_handshake_timeout_usec, "10s", 1 * USEC_PER_SEC, 10 * MINUTE), RELOAD,
                "A connection that has not signed in (the connect command) within this time is closed."},
        {"Socket", "PingIntervalSec",
                DURATION(socket_ping_interval_usec, "25s", 1 * USEC_PER_SEC, 60 * MINUTE), RELOAD,
                "The server pings each client at this interval; clients notice a dead connection by it."},
        {"Socket", "PongTimeoutSec",
                DURATION(socket_pong_timeout_usec, "10s", 1 * USEC_PER_SEC, 60 * MINUTE), RELOAD,
                "A client that has not answered a ping within this time is disconnected."},
        {"Socket", "MaxQueue", SIZE(socket_max_queue, "1M", 16 * KIB, 1 * GIB), RELOAD,
                "Bytes of what it did not ask for that may wait for one client that reads slowly. Beyond "
                "that it "
                "is disconnected, and gets from the store what it missed when it comes back."},
        {"Socket", "MaxConnections", UNSIGNED(socket_max_connections, "18000", 0, 10000000), RELOAD,
                "Most connections of one instance at a time; 0: no limit but that of open files. Keep it "
                "below LimitNOFILE= of the unit."},
        {"Socket", "MaxConnectionsPerAddress",
                UNSIGNED(socket_max_connections_per_address, "200", 0, 10000000), RELOAD,
                "Most connections of one address at a time; 0: no limit. Behind a proxy all connections "
                "come from the proxy's address."},
        {"Socket", "MaxConnectionsPerUser", UNSIGNED(socket_max_connections_per_user, "50", 0, 1000000),
                RELOAD, "Most connections of one user to one instance at a time; 0: no limit."},
        {"Socket", "MaxConversations", UNSIGNED(socket_max_conversations, "50000", 1, 10000000), RELOAD,
                "Conversations that one connection hears. The client of a user who has more is told so, and "
                "has to "
                "ask for what is in the others."},

        {"Limits", "UserRate", UNSIGNED(limits_user_rate, "100", 0, 1000000), RELOAD,
                "What one user may ask of an instance of a role a second, over REST or all of the user's "
                "sockets together; 0: no limit. Most calls count once, those that answer long pages several "
                "times. Beyond it calls are refused as rate_limited, and a socket that goes on all the same "
                "is closed."},
        {"Limits", "UserBurst", UNSIGNED(limits_user_burst, "500", 1, 1000000), RELOAD,
                "How much of that may come at once."},
        {"Limits", "AddressRate", UNSIGNED(limits_address_rate, "1000", 0, 1000000), RELOAD,
                "The same for all that comes from one address (of IPv6: from one /64), with or without a "
                "user; 0: no limit. Addresses of Api.TrustedProxies= are not counted."},
        {"Limits", "AddressBurst", UNSIGNED(limits_address_burst, "5000", 1, 1000000), RELOAD,
                "How much of that may come at once."},

        {"Group", "MaxRecovery", UNSIGNED(group_max_recovery, "500", 0, 100000), RELOAD,
                "Messages of one conversation that are sent to a client when it comes back. One that missed "
                "more is told to page through the history."},
        {"Group", "MaxUnanswered", UNSIGNED(group_max_unanswered, "50", 0, 1000), RELOAD,
                "Conversations that one user may have opened with others who have not written in them yet; "
                "0: no "
                "limit. One more is refused as too_many_unanswered until somebody answers."},
        {"Group", "MaxStrangers", UNSIGNED(group_max_strangers, "200", 0, 1000), RELOAD,
                "Conversations that others may have opened with one user who has not written in them yet; "
                "0: no "
                "limit. One more is refused as inbox_full until the user answers some."},
        {"Group", "MaxConversations", UNSIGNED(group_max_conversations, "20000", 1, 20000), RELOAD,
                "Conversations that one user may have; no further one can be opened by or with the user."},
        {"Group", "CacheConversations", UNSIGNED(group_cache_conversations, "20000", 16, 100000000), RELOAD,
                "Conversations that stay in memory although nobody uses them just now."},

        {"Store", "Kind", CHOICE(store_kind, "sqlite", store_kinds), RESTART,
                "Where records are kept. sqlite: in files of this host's /var/lib/stonechat. postgresql: in "
                "a "
                "PostgreSQL database; install the package stonechat-postgresql for it, and set URI=."},
        {"Store", "URI", TEXT(store_uri, ""), RESTART,
                "postgresql: where the database is, as a connection URI of libpq, such as "
                "postgresql://stonechat@/stonechat?host=/run/postgresql, without a password: that is the "
                "credential store.password of stonechat-api.service and stonechat-group.service. With "
                "several "
                "hosts the one that takes writes is used. Names are resolved once, when a role starts."},
        {"Store", "TimeoutSec", DURATION(store_timeout_usec, "10s", 100 * USEC_PER_MSEC, 10 * MINUTE),
                RESTART,
                "postgresql: how long to wait for the server, to connect, and to answer an operation. What "
                "was "
                "under way when the time is over may be stored or not, and is looked up."},
        {"Store", "Readers", UNSIGNED(store_readers, "2", 1, 64), RESTART,
                "sqlite: threads that read from the store, each with a connection of its own. postgresql: "
                "connections that read."},
        {"Store", "BatchOperations", UNSIGNED(store_batch_operations, "64", 1, 10000), RESTART,
                "Most writes that are committed together. More raise the throughput and the latency."},
        {"Store", "Queue", UNSIGNED(store_queue, "65536", 64, 10000000), RESTART,
                "Operations that may wait for the store; beyond that requests are refused as overloaded."},

        {"Rpc", "TimeoutSec", DURATION(rpc_timeout_usec, "10s", 100 * USEC_PER_MSEC, 10 * MINUTE), RESTART,
                "How long a role waits for another role's answer."},

        {"Cluster", "Peers", LIST(cluster_peers, ""), RESTART,
                "The other hosts of the cluster; empty: this host stands alone. Needs a store that hosts "
                "can share."},

        {"Log", "Level", CHOICE(log_level, "info", log_levels), RELOAD,
                "Entries less important than this are not written. For a running role: systemctl "
                "service-log-level UNIT LEVEL."},
        {"Log", "TraceRate", UNSIGNED(log_trace_rate, "5", 0, 1000000), RELOAD,
                "Requests a second whose way through the roles is written to the journal, for each instance "
                "of a role that clients talk to; 0: none. Half of it is kept for those that a signed-in "
                "client has marked as sampled. See them with: journalctl STONECHAT_TRACE_ID=ID."},
        {"Log", "TraceUserRate", UNSIGNED(log_trace_user_rate, "6", 0, 1000000), RELOAD,
                "How many of these may be one user's, or one address's without a user, a minute; 0: no "
                "limit "
                "but TraceRate=. One trace writes some 6 KB."},
};

const size_t conf_n_keys = ELEMENTSOF(conf_keys);
