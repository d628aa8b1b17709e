/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <sys/queue.h>

#include "log/log.h"
#include "log/message-ids.h"
#include "rpc/address.h"
#include "rpc/stream.h"
#include "schema-tables.h"
#include "util/fd-util.h"
#include "util/hash.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define BACKOFF_MIN_USEC (20 * USEC_PER_MSEC)
#define BACKOFF_MAX_USEC (1 * USEC_PER_SEC)
#define TIMER_ACCURACY_USEC USEC_PER_MSEC

/* A request that has not been answered. What is needed to send it (again) is kept in `data`: the caller's
 * and the intent's strings, and the payload; nothing for one that was sent and must not be sent twice. */
typedef struct Pending {
        uint64_t id; /* key */
        UT_hash_handle by_id; /* iterates in the order of the calls */
        TAILQ_ENTRY(Pending) others; /* in deadlines, or in failing */
        TAILQ_ENTRY(Pending) waiting; /* in unsent, while it is not sent */
        uint64_t deadline;
        const MethodInfo *method;
        RpcReply reply;
        void *userdata;
        bool sent; /* on this connection */
        bool ever_sent;
        bool kept;
        Sc__ErrorCode failure; /* in failing */
        Trace trace;
        Sc__Caller caller;
        Sc__Envelope__Delivery intent;
        RpcMessage message; /* points into this */
        size_t size;
        char data[];
} Pending;

typedef TAILQ_HEAD(PendingList, Pending) PendingList;

struct RpcClient {
        unsigned n_ref; /* of the owner, and of each callback that runs */
        bool freed;
        sd_event *event;
        char *name; /* the address as text */
        Address *address;
        TlsContext *tls;
        Role self;
        uint64_t default_timeout_usec;
        RpcClientHandlers handlers;
        void *userdata;
        Stream *stream; /* NULL: not connected */
        bool connected; /* the peer has said HELLO */
        bool setting_up; /* on_connect runs: what it calls comes first */
        const char *complaint; /* the last one about a peer that does not connect, so that it is made once */
        sd_event_source *connect_timer;
        bool connecting; /* connect_timer is armed */
        uint64_t backoff_usec;
        Pending *pending; /* by id */
        PendingList deadlines; /* the same, earliest first */
        PendingList
                unsent; /* those of them that are not sent on this connection, in the order of the calls */
        PendingList failing; /* out of both, about to be failed */
        size_t kept_size;
        uint64_t last_id;
        sd_event_source *deadline_timer;
        uint64_t armed_deadline; /* what deadline_timer is set to; USEC_INFINITY: off */
};

static RpcClient *client_unref(RpcClient *client) {
        if (!client || --client->n_ref > 0)
                return NULL;
        sd_event_unref(client->event);
        address_free(client->address);
        tls_context_unref(client->tls);
        free(client->name);
        free(client);
        return NULL;
}
DEFINE_CLEANUP(RpcClient *, client_unref);

static RpcClient *client_ref(RpcClient *client) {
        client->n_ref++;
        return client;
}

/* --- outstanding requests --- */

static size_t caller_size(const Sc__Caller *caller) {
        return caller ? strlen(caller->user) + strlen(caller->session) + strlen(caller->device) +
                                strlen(caller->client) + 4
                      : 0;
}

static size_t intent_size(const Sc__Envelope__Delivery *intent) {
        return intent ? strlen(intent->source) + strlen(intent->target) + 2 : 0;
}

static char *copy_string(char **p, const char *s) {
        char *copy = *p;
        *p = stpcpy(copy, s) + 1;
        return copy;
}

static void pending_keep(Pending *pending, const RpcMessage *message) {
        char *p = pending->data;

        pending->kept = true;
        pending->message = *message;
        pending->message.method = pending->method->name;
        if (message->trace) {
                pending->trace = *message->trace;
                pending->message.trace = &pending->trace;
        }
        if (message->caller) {
                pending->caller = (Sc__Caller) SC__CALLER__INIT;
                pending->caller.user = copy_string(&p, message->caller->user);
                pending->caller.session = copy_string(&p, message->caller->session);
                pending->caller.device = copy_string(&p, message->caller->device);
                pending->caller.client = copy_string(&p, message->caller->client);
                pending->message.caller = &pending->caller;
        }
        if (message->intent) {
                pending->intent = (Sc__Envelope__Delivery) SC__ENVELOPE__DELIVERY__INIT;
                pending->intent.source = copy_string(&p, message->intent->source);
                pending->intent.number = message->intent->number;
                pending->intent.target = copy_string(&p, message->intent->target);
                pending->message.intent = &pending->intent;
        }
        if (message->payload_size > 0)
                memcpy(p, message->payload, message->payload_size);
        pending->message.payload = p;
}

/* `keep`: copies what is needed to send the request later. */
static Pending *pending_new(const MethodInfo *method, const RpcMessage *message, bool keep) {
        size_t size =
                keep ? caller_size(message->caller) + intent_size(message->intent) + message->payload_size
                     : 0;
        Pending *pending = malloc(sizeof(Pending) + size);
        if (!pending)
                return NULL;
        memset(pending, 0, sizeof(Pending));
        pending->method = method;
        pending->size = size;
        if (keep)
                pending_keep(pending, message);
        return pending;
}

/* Keeps `deadlines` in order. Timeouts are mostly alike, so the place is at or near the end. */
static void insert_deadline(RpcClient *client, Pending *pending) {
        Pending *before = TAILQ_LAST(&client->deadlines, PendingList);

        while (before && before->deadline > pending->deadline)
                before = TAILQ_PREV(before, PendingList, others);
        if (before)
                TAILQ_INSERT_AFTER(&client->deadlines, before, pending, others);
        else
                TAILQ_INSERT_HEAD(&client->deadlines, pending, others);
}

static int add_pending(RpcClient *client, Pending *pending) {
        HASH_ADD(by_id, client->pending, id, sizeof(pending->id), pending);
        if (!pending->by_id.tbl)
                return -ENOMEM;
        insert_deadline(client, pending);
        TAILQ_INSERT_TAIL(&client->unsent, pending, waiting);
        client->kept_size += pending->size;
        return 0;
}

static void remove_pending(RpcClient *client, Pending *pending) {
        HASH_DELETE(by_id, client->pending, pending);
        TAILQ_REMOVE(&client->deadlines, pending, others);
        if (!pending->sent)
                TAILQ_REMOVE(&client->unsent, pending, waiting);
        client->kept_size -= pending->size;
}

/* Marks a request as failed: run_failures() calls its reply. */
static void set_failing(RpcClient *client, Pending *pending, Sc__ErrorCode failure) {
        remove_pending(client, pending);
        pending->failure = failure;
        TAILQ_INSERT_TAIL(&client->failing, pending, others);
}

/* The replies may do anything: call, or free the client, which then runs the rest of the list itself. */
static void run_failures(RpcClient *client) {
        Pending *pending;

        while ((pending = TAILQ_FIRST(&client->failing))) {
                TAILQ_REMOVE(&client->failing, pending, others);
                pending->reply(pending->failure, "", NULL, 0, pending->userdata);
                free(pending);
        }
}

/* --- deadlines --- */

static void arm_deadline_timer(RpcClient *client) {
        Pending *first = TAILQ_FIRST(&client->deadlines);

        /* Waking up too early is cheaper than setting the timer for every request. */
        if (!first || first->deadline >= client->armed_deadline)
                return;
        client->armed_deadline = first->deadline;
        sd_event_source_set_time(client->deadline_timer, first->deadline);
        sd_event_source_set_enabled(client->deadline_timer, SD_EVENT_ONESHOT);
}

/* The replies may do anything, also free the client. */
static void fail_expired(RpcClient *client, uint64_t now) {
        Pending *pending;

        while ((pending = TAILQ_FIRST(&client->deadlines)) && pending->deadline <= now)
                set_failing(client, pending, pending->ever_sent ? ERROR_TIMEOUT : ERROR_UNAVAILABLE);
        run_failures(client);
}

static int on_deadline(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        _cleanup_(client_unrefp) RpcClient *client = client_ref(userdata);

        client->armed_deadline = USEC_INFINITY;
        fail_expired(client, boottime_usec());
        if (!client->freed)
                arm_deadline_timer(client);
        return 0;
}

/* --- the connection --- */

static void arm_connect(RpcClient *client, uint64_t delay_usec) {
        if (client->connecting)
                return;
        client->connecting = true;
        sd_event_source_set_time(client->connect_timer, delay_usec > 0 ? boottime_usec() + delay_usec : 0);
        sd_event_source_set_enabled(client->connect_timer, SD_EVENT_ONESHOT);
}

/* Is there a reason to be connected: a request that waits, or an on_connect? */
static bool wants_connection(const RpcClient *client) {
        return client->pending || client->handlers.on_connect;
}

static void arm_reconnect(RpcClient *client) {
        uint64_t delay = client->backoff_usec;

        client->backoff_usec = MIN(client->backoff_usec * 2, BACKOFF_MAX_USEC);
        /* A quarter more or less, so that not all peers of a role that restarts come at once. */
        arm_connect(client, delay - delay / 4 + randombytes_uniform((uint32_t) (delay / 2)));
}

/* Sends a request with the time that is left for it. */
static int send_request(RpcClient *client, uint64_t id, const RpcMessage *message, uint64_t left_usec) {
        Sc__Trace wire_trace;

        Sc__Envelope envelope =
                rpc_message_to_envelope(SC__ENVELOPE__KIND__REQUEST, id, message, &wire_trace);
        envelope.timeout_ms = MIN(left_usec / USEC_PER_MSEC + 1, UINT32_MAX);
        return stream_send(client->stream, LANE_URGENT, &envelope);
}

static void set_sent(RpcClient *client, Pending *pending) {
        TAILQ_REMOVE(&client->unsent, pending, waiting);
        pending->sent = pending->ever_sent = true;
}

static bool has_room(const RpcClient *client) {
        return client->connected && stream_queued(client->stream) < RPC_SEND_WINDOW;
}

/* Sends what has not been sent on this connection, in the order of the calls, as far as there is room. What fails is
 * told at once: its caller may have to take back what is behind it. */
static void send_waiting(RpcClient *client) {
        uint64_t now = boottime_usec();
        Pending *pending;

        fail_expired(client, now);
        while (has_room(client) && (pending = TAILQ_FIRST(&client->unsent))) {
                int r = send_request(client, pending->id, &pending->message, pending->deadline - now);
                if (r == -ENOTCONN)
                        return; /* on_end() comes */
                if (r < 0) {
                        set_failing(client, pending, ERROR_OVERLOADED);
                        run_failures(client);
                } else
                        set_sent(client, pending);
        }
}

static void on_written(void *userdata) {
        _cleanup_(client_unrefp) RpcClient *client = client_ref(userdata);

        if (TAILQ_EMPTY(&client->unsent))
                return;
        send_waiting(client);
        run_failures(client);
}

static int on_response(RpcClient *client, const Sc__Envelope *envelope) {
        Pending *pending;

        HASH_FIND(by_id, client->pending, &envelope->id, sizeof(envelope->id), pending);
        if (!pending)
                return envelope->id <= client->last_id ? 0 : -EPROTO; /* too late, or never asked for */
        remove_pending(client, pending);
        if (envelope->error == ERROR_NONE)
                pending->reply(ERROR_NONE, "", envelope->payload.data ?: (const uint8_t *) "",
                        envelope->payload.len, pending->userdata);
        else
                pending->reply(envelope->error, envelope->error_detail, NULL, 0, pending->userdata);
        free(pending);
        return 0;
}

static int on_envelope(const Sc__Envelope *envelope, void *userdata) {
        RpcClient *client = userdata;
        Trace trace;

        if (envelope->kind == SC__ENVELOPE__KIND__RESPONSE)
                return on_response(client, envelope);
        if (envelope->kind != SC__ENVELOPE__KIND__PUSH)
                return -EPROTO;
        if (client->handlers.on_push) {
                RpcMessage message = rpc_message_from_envelope(envelope, &trace);
                client->handlers.on_push(&message, client->userdata);
        }
        return 0;
}

/* The connection stands. The handler may free the client. */
static int on_hello(_unused_ const Sc__Envelope__Hello *hello, _unused_ Role role,
        _unused_ const char **ret_text, void *userdata) {
        _cleanup_(client_unrefp) RpcClient *client = client_ref(userdata);

        client->connected = true;
        client->complaint = NULL;
        client->backoff_usec = BACKOFF_MIN_USEC;
        if (client->handlers.on_connect) {
                client->setting_up = true;
                client->handlers.on_connect(client->userdata);
                client->setting_up = false;
        }
        if (client->connected)
                send_waiting(client);
        run_failures(client);
        return 0;
}

static bool is_refusal(int error) {
        return error == -EPERM || error == -EPROTONOSUPPORT || error == -EPROTO || error == -EPROTOTYPE ||
               error == -EKEYREJECTED || error == -EKEYEXPIRED;
}

static void log_end(RpcClient *client, int error, const char *text) {
        bool again = client->complaint == text;

        if (!client->connected)
                client->complaint = text;
        if (error == 0 || again)
                return;
        if (is_refusal(error))
                log_peer((.message_id = MESSAGE_ID_PEER_REFUSED, .error_number = -error), LOG_WARNING,
                        "Refusing the role at %s: %s.", client->name, text);
        else if (error == -ETIMEDOUT)
                log_peer((.message_id = MESSAGE_ID_PEER_DEAD, .error_number = -error), LOG_WARNING,
                        "Giving up the role at %s: %s.", client->name, text);
        else
                log_peer((.error_number = -error), LOG_NOTICE, "Lost the connection to %s: %s.",
                        client->name, text);
}

/* What was sent and may be sent twice waits again, in its place among the others. */
static void unsend(RpcClient *client) {
        Pending *pending, *next;

        HASH_ITER(by_id, client->pending, pending, next)
                if (pending->sent && !pending->method->idempotent)
                        set_failing(client, pending, ERROR_UNAVAILABLE);
        TAILQ_INIT(&client->unsent);
        HASH_ITER(by_id, client->pending, pending, next) {
                pending->sent = false;
                TAILQ_INSERT_TAIL(&client->unsent, pending, waiting);
        }
}

static void on_end(int error, const char *text, void *userdata) {
        _cleanup_(client_unrefp) RpcClient *client = client_ref(userdata);

        log_end(client, error, text);
        bool was_connected = TAKE_GENERIC(client->connected, false);
        client->stream = stream_free(client->stream);
        unsend(client);
        if (wants_connection(client))
                arm_reconnect(client);
        if (was_connected && client->handlers.on_disconnect)
                client->handlers.on_disconnect(client->userdata);
        run_failures(client);
}

static const StreamHandlers stream_handlers = {
        .on_hello = on_hello,
        .on_envelope = on_envelope,
        .on_written = on_written,
        .on_end = on_end,
};

static int connect_stream(RpcClient *client) {
        _cleanup_(transport_freep) Transport *transport = NULL;
        int fd = address_connect(client->address);
        if (fd < 0)
                return fd;
        int r = transport_new(&transport, fd, client->tls);
        if (r < 0) {
                safe_close(fd);
                return r;
        }
        r = stream_new(&client->stream, client->event, transport, client->self, &stream_handlers, client);
        if (r < 0)
                return r;
        TAKE_PTR(transport);
        return 0;
}

static int on_connect_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        RpcClient *client = userdata;

        client->connecting = false;
        if (!wants_connection(client) || client->stream)
                return 0;
        int r = connect_stream(client);
        if (r < 0 && r != -EINPROGRESS) { /* then on_resolved() comes */
                log_debug_errno(r, "Failed to connect to %s, trying again: %m", client->name);
                arm_reconnect(client);
        }
        return 0;
}

static void on_resolved(void *userdata) {
        arm_connect(userdata, 0);
}

/* --- the surface --- */

int rpc_client_new(RpcClient **ret, sd_event *event, const RpcClientConfig *config,
        const RpcClientHandlers *handlers, void *userdata) {
        _cleanup_(rpc_client_freep) RpcClient *client = new0(RpcClient, 1);
        if (!client)
                return -ENOMEM;
        client->n_ref = 1;
        client->event = sd_event_ref(event);
        client->default_timeout_usec = config->timeout_usec;
        client->backoff_usec = BACKOFF_MIN_USEC;
        client->armed_deadline = USEC_INFINITY;
        client->userdata = userdata;
        TAILQ_INIT(&client->deadlines);
        TAILQ_INIT(&client->failing);
        TAILQ_INIT(&client->unsent);
        client->self = config->role;
        client->tls = tls_context_ref(config->tls);
        if (handlers)
                client->handlers = *handlers;
        client->name = strdup(strempty(config->address));
        if (!client->name)
                return -ENOMEM;
        int r = address_new(&client->address, event, client->name, on_resolved, client);
        if (r < 0)
                return r;
        r = sd_event_add_time(event, &client->connect_timer, CLOCK_BOOTTIME, 0, TIMER_ACCURACY_USEC,
                on_connect_timer, client);
        if (r < 0)
                return r;
        r = sd_event_add_time(event, &client->deadline_timer, CLOCK_BOOTTIME, USEC_INFINITY,
                TIMER_ACCURACY_USEC, on_deadline, client);
        if (r < 0)
                return r;
        client->connecting = true; /* a new timer is armed: it goes off at once */
        *ret = TAKE_PTR(client);
        return 0;
}

RpcClient *rpc_client_free(RpcClient *client) {
        Pending *pending, *next;

        if (!client || client->freed)
                return NULL;
        client->freed = true;
        client->connected = false;
        client->stream = stream_free(client->stream);
        client->address = address_free(client->address);
        client->connect_timer = sd_event_source_disable_unref(client->connect_timer);
        client->deadline_timer = sd_event_source_disable_unref(client->deadline_timer);
        HASH_ITER(by_id, client->pending, pending, next)
                set_failing(client, pending, ERROR_UNAVAILABLE);
        run_failures(client);
        return client_unref(client);
}

bool rpc_client_is_connected(const RpcClient *client) {
        return client->connected;
}

void rpc_client_set_tls(RpcClient *client, TlsContext *tls) {
        tls_context_ref(tls);
        tls_context_unref(client->tls);
        client->tls = tls;
}

int rpc_client_call(RpcClient *client, const MethodInfo *method, const RpcMessage *message, RpcReply reply,
        void *userdata) {
        uint64_t id;

        return rpc_client_start(client, method, message, reply, userdata, &id);
}

static void send_cancel(RpcClient *client, uint64_t id) {
        Sc__Envelope envelope = SC__ENVELOPE__INIT;

        envelope.kind = SC__ENVELOPE__KIND__CANCEL;
        envelope.id = id;
        (void) stream_send(client->stream, LANE_URGENT, &envelope);
}

void rpc_client_forget(RpcClient *client, uint64_t id) {
        Pending *pending;

        HASH_FIND(by_id, client->pending, &id, sizeof(id), pending);
        if (pending) {
                if (pending->sent && client->connected)
                        send_cancel(client, id);
                remove_pending(client, pending);
        } else {
                TAILQ_FOREACH(pending, &client->failing, others)
                        if (pending->id == id)
                                break;
                if (!pending)
                        return;
                TAILQ_REMOVE(&client->failing, pending, others);
        }
        free(pending);
}

bool rpc_client_withdraw(RpcClient *client, uint64_t id) {
        Pending *pending;

        HASH_FIND(by_id, client->pending, &id, sizeof(id), pending);
        if (!pending || (pending->sent && !pending->method->idempotent))
                return false;
        if (pending->sent && client->connected)
                send_cancel(client, id);
        remove_pending(client, pending);
        free(pending);
        return true;
}

/* At once, and so before what waits? */
static bool may_send(const RpcClient *client) {
        return client->connected &&
               (client->setting_up || (TAILQ_EMPTY(&client->unsent) && has_room(client)));
}

static int add_and_send(RpcClient *client, Pending *pending, const RpcMessage *message, uint64_t timeout) {
        bool send = may_send(client);
        RpcMessage named = *message;

        int r = add_pending(client, pending);
        if (r < 0 || !send)
                return r;
        named.method = pending->method->name;
        r = send_request(client, pending->id, &named, timeout);
        if (r == -ENOTCONN && pending->kept) /* on_end() comes, and the next connection */
                return 0;
        if (r < 0)
                remove_pending(client, pending);
        else
                set_sent(client, pending);
        return r;
}

int rpc_client_start(RpcClient *client, const MethodInfo *method, const RpcMessage *message, RpcReply reply,
        void *userdata, uint64_t *ret) {
        if (client->freed)
                return -ENOTCONN;
        bool keep = method->idempotent || !may_send(client);
        if (message->payload_size > RPC_MAX_PAYLOAD)
                return -EMSGSIZE;
        if (HASH_CNT(by_id, client->pending) >= RPC_MAX_PENDING ||
                (keep && client->kept_size + message->payload_size > RPC_MAX_KEPT))
                return -ENOBUFS;

        _cleanup_free_ Pending *pending = pending_new(method, message, keep);
        if (!pending)
                return -ENOMEM;
        uint64_t timeout = message->timeout_usec ?: client->default_timeout_usec;
        uint64_t now = boottime_usec();
        pending->id = client->last_id + 1;
        pending->deadline = timeout < USEC_INFINITY - now ? now + timeout : USEC_INFINITY - 1;
        pending->reply = reply;
        pending->userdata = userdata;
        int r = add_and_send(client, pending, message, timeout);
        if (r < 0)
                return r;
        if (!client->stream)
                arm_connect(client, 0);
        *ret = ++client->last_id;
        TAKE_PTR(pending);
        arm_deadline_timer(client);
        return 0;
}
