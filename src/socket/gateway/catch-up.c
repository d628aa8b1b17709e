/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/gateway/catch-up.h"

#include <inttypes.h>
#include <stdio.h>

#include "schema-tables.h"
#include "socket/gateway/page.h"
#include "util/string-util.h"
#include "util/time-util.h"

/* A page is fetched for one connection, and serves all others that lack the same: it begins at the lowest
 * position of any of them that has room. The conversations of one fetch are those of the connection that are
 * behind, as many as a page is likely to hold. */

#define RESPONSE_ARENA_LIMIT (16U << 20)

typedef struct FetchItem {
        Channel *channel; /* pinned, and `fetching` */
        uint64_t from; /* position */
        uint64_t top; /* as it was known */
} FetchItem;

/* One request of gateway.recover. */
struct Fetch {
        LIST_ENTRY(Fetch) in_gateway;
        Gateway *gateway;
        Connection *connection; /* NULL: it ended */
        uint64_t request; /* of the RPC client */
        Link *link;
        size_t n;
        FetchItem items[CATCH_UP_MAX_POSITIONS];
};

static void fetch_some(Gateway *gateway);

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Gateway *gateway = userdata;

        gateway->retrying = false;
        fetch_some(gateway);
        return 0;
}

static void retry_later(Gateway *gateway) {
        if (gateway->retrying)
                return;
        gateway->retrying = true;
        sd_event_source_set_time(gateway->retry, boottime_usec() + GATEWAY_RETRY_USEC);
        sd_event_source_set_enabled(gateway->retry, SD_EVENT_ONESHOT);
}

int catch_up_init(Gateway *gateway) {
        TAILQ_INIT(&gateway->behind);
        LIST_INIT(&gateway->fetches);
        int r = sd_event_add_time(
                gateway->role->process->event, &gateway->retry, CLOCK_BOOTTIME, 0, 0, on_retry, gateway);
        return r < 0 ? r : sd_event_source_set_enabled(gateway->retry, SD_EVENT_OFF);
}

static void fetch_free(Fetch *fetch) {
        if (fetch->connection) {
                fetch->connection->fetch = NULL;
                fetch->connection->catch_up = CATCH_UP_IDLE;
                fetch->connection->user->n_fetches--;
        }
        FOREACH_ARRAY(item, fetch->items, fetch->n) {
                item->channel->fetching = false;
                channel_unpin(fetch->gateway->role, item->channel);
        }
        LIST_REMOVE(fetch, in_gateway);
        fetch->gateway->n_fetches--;
        free(fetch);
}

/* --- what is fetched --- */

/* It is the primary that tells which subscriptions are in force: they wait for that after a break. */
static bool is_confirmed(const Subscription *subscription, const Link *link) {
        return subscription->serial > link->valid_since;
}

static bool may_fetch(const Subscription *subscription, const Link *link) {
        return subscription->announced && subscription_is_behind(subscription) &&
               subscription->connection->state == CONNECTION_CONNECTED && is_confirmed(subscription, link);
}

static uint64_t lowest_position(const Channel *channel, const Link *link, uint64_t position) {
        const Subscription *s;

        LIST_FOREACH(s, &channel->subscriptions, in_channel)
                if (s->position < position && may_fetch(s, link) && page_fits(s->connection))
                        position = s->position;
        return position;
}

static void collect_items(Fetch *fetch) {
        const Gateway *gateway = fetch->gateway;
        uint64_t n_messages = 0;
        Subscription *s;

        TAILQ_FOREACH(s, &fetch->connection->subscriptions, in_connection) {
                Channel *channel = s->channel;

                if (!subscription_is_behind(s) || channel->fetching)
                        continue;
                Link *link = gateway_link_of(gateway, channel->conversation);
                if (!link || (fetch->link && link != fetch->link) || !may_fetch(s, link))
                        continue;
                fetch->link = link;
                FetchItem *item = &fetch->items[fetch->n++];
                *item = (FetchItem){
                        channel_pin(channel), lowest_position(channel, link, s->position), channel->top};
                channel->fetching = true;
                n_messages += item->top - item->from;
                if (fetch->n == CATCH_UP_MAX_POSITIONS || n_messages >= CATCH_UP_MAX_MESSAGES)
                        return;
        }
}

/* --- the answer --- */

static void take_page(Fetch *fetch, const FetchItem *item, const Sc__RecoverResponse__Page *page) {
        SocketRole *role = fetch->gateway->role;
        Channel *channel = item->channel;

        if (isempty(page->epoch)) /* there is no such conversation: nobody is a member, which attaching finds */
                return channel_skip(channel);
        if (!streq(page->epoch, channel->epoch))
                return channel_set_epoch(role, channel, page->epoch, page->last_seq);
        if (page->n_publications == 0 && page->last_seq > item->from) /* they are stored no more */
                return channel_set_epoch(role, channel, page->epoch, MAX(channel->top, page->last_seq));
        if (channel_send_page(role, channel, item->from, page, fetch->connection) < 0)
                retry_later(fetch->gateway);
        /* The top may be wrong only if the store has become older than what it told before. */
        if (page->n_publications == 0 && channel->top == item->top)
                channel->top = page->last_seq;
        channel->top = MAX(channel->top, page->last_seq);
}

/* Those who waited for this one. */
static void release_user(ConnectedUser *user) {
        Connection *connection;

        TAILQ_FOREACH(connection, &user->connections, in_user)
                if (connection->catch_up == CATCH_UP_HELD) {
                        connection->catch_up = CATCH_UP_IDLE;
                        connection_behind(connection);
                }
}

/* Whoever still lacks something. */
static void go_on(Fetch *fetch) {
        ConnectedUser *user = fetch->connection ? fetch->connection->user : NULL;
        Connection *connection = fetch->connection;
        Gateway *gateway = fetch->gateway;
        Channel *channels[CATCH_UP_MAX_POSITIONS];
        size_t n = fetch->n;

        for (size_t i = 0; i < n; i++)
                channels[i] = channel_pin(fetch->items[i].channel);
        fetch_free(fetch);
        for (size_t i = 0; i < n; i++) {
                Subscription *s;
                LIST_FOREACH(s, &channels[i]->subscriptions, in_channel)
                        if (subscription_is_behind(s))
                                connection_behind(s->connection);
        }
        for (size_t i = 0; i < n; i++)
                channel_unpin(gateway->role, channels[i]);
        if (user)
                release_user(user);
        if (connection)
                connection_catch_up(connection);
        fetch_some(gateway);
}

static void on_answer(
        Sc__ErrorCode code, const char *detail, const void *payload, size_t size, void *userdata) {
        Fetch *fetch = userdata;
        ProtobufCMessage *message;
        _cleanup_arena_ Arena arena;

        arena_init(&arena, RESPONSE_ARENA_LIMIT);
        if (code == ERROR_NONE &&
                arena_unpack(&arena, &sc__recover_response__descriptor, payload, size, &message) < 0)
                code = ERROR_INTERNAL;
        if (code != ERROR_NONE)
                retry_later(fetch->gateway);
        else {
                const Sc__RecoverResponse *response = (const Sc__RecoverResponse *) message;
                for (size_t i = 0; i < MIN(fetch->n, response->n_pages); i++)
                        take_page(fetch, &fetch->items[i], response->pages[i]);
        }
        go_on(fetch);
}

/* --- the request --- */

static int send_request(Fetch *fetch) {
        Sc__RecoverRequest request = SC__RECOVER_REQUEST__INIT;
        Sc__Position positions[CATCH_UP_MAX_POSITIONS], *pointers[CATCH_UP_MAX_POSITIONS];
        Sc__Caller caller = SC__CALLER__INIT;

        for (size_t i = 0; i < fetch->n; i++) {
                positions[i] = (Sc__Position) SC__POSITION__INIT;
                positions[i].conversation = fetch->items[i].channel->conversation;
                positions[i].epoch = fetch->items[i].channel->epoch;
                positions[i].seq = fetch->items[i].from;
                pointers[i] = &positions[i];
        }
        request.positions = pointers;
        request.n_positions = fetch->n;
        caller.user = (char *) connection_user(fetch->connection);
        size_t size = sc__recover_request__get_packed_size(&request);
        _cleanup_free_ uint8_t *payload = malloc(size);
        if (!payload)
                return -ENOMEM;
        sc__recover_request__pack(&request, payload);
        return rpc_client_start(fetch->link->client, &method_gateway_recover,
                &(RpcMessage){
                        .method = method_gateway_recover.name,
                        .caller = &caller,
                        .timeout_usec = fetch->gateway->role->conf->rpc_timeout_usec,
                        .payload = payload,
                        .payload_size = size,
                },
                on_answer, fetch, &fetch->request);
}

/* 1: something is under way; 0: there is nothing that can be fetched now. */
static int fetch_new(Gateway *gateway, Connection *connection) {
        Fetch *fetch = new0(Fetch, 1);

        if (!fetch)
                return -ENOMEM;
        fetch->gateway = gateway;
        fetch->connection = connection;
        connection->fetch = fetch;
        connection->catch_up = CATCH_UP_FETCHING;
        connection->user->n_fetches++;
        LIST_INSERT_HEAD(&gateway->fetches, fetch, in_gateway);
        gateway->n_fetches++;
        collect_items(fetch);
        int r = fetch->n == 0                                  ? 0
                : rpc_client_is_connected(fetch->link->client) ? send_request(fetch)
                                                               : -ENOTCONN;
        if (r < 0 || fetch->n == 0) {
                fetch_free(fetch);
                return r;
        }
        return 1;
}

/* --- whose turn it is --- */

static void queue(Gateway *gateway, Connection *connection) {
        connection->catch_up = CATCH_UP_QUEUED;
        TAILQ_INSERT_TAIL(&gateway->behind, connection, in_catch_up);
}

static void fetch_some(Gateway *gateway) {
        Connection *connection;

        while (!gateway->retrying && gateway->n_fetches < CATCH_UP_MAX_FETCHES &&
                (connection = TAILQ_FIRST(&gateway->behind))) {
                TAILQ_REMOVE(&gateway->behind, connection, in_catch_up);
                connection->catch_up = CATCH_UP_IDLE;
                if (connection->user->n_fetches >= CATCH_UP_MAX_PER_USER)
                        connection->catch_up = CATCH_UP_HELD;
                else if (fetch_new(gateway, connection) < 0) {
                        queue(gateway, connection);
                        retry_later(gateway);
                }
        }
}

/* Tells the client that there are conversations that it does not hear. */
static int tell_truncated(Connection *connection) {
        Client__Message message = CLIENT__MESSAGE__INIT;
        Client__Push push = CLIENT__PUSH__INIT;
        Client__Reply reply = CLIENT__REPLY__INIT;
        ProtocolError error = PROTOCOL_ERROR_LIMIT_EXCEEDED;
        char text[160];

        connection->truncated_told = true;
        message.data.len = (size_t) snprintf(text, sizeof(text),
                "{\"error\":{\"code\":%" PRIu32 ",\"message\":\"%s: only %" PRIu32
                " conversations are heard\"}}",
                error.code, error.name, connection->n_subscriptions);
        message.data.data = (uint8_t *) text;
        push.what_case = CLIENT__PUSH__WHAT_MESSAGE;
        push.message = &message;
        reply.result_case = CLIENT__REPLY__RESULT_PUSH;
        reply.push = &push;
        return connection_reply(connection, &reply);
}

/* Tells the client of its other subscriptions. False: it has to read first, or was disconnected. */
static bool announce(Connection *connection) {
        Subscription *s;

        if (connection->truncated && !connection->truncated_told && tell_truncated(connection) < 0)
                return false;
        TAILQ_FOREACH(s, &connection->subscriptions, in_connection) {
                if (connection->n_unannounced == 0)
                        return true;
                if (s->announced)
                        continue;
                if (!connection_has_room(connection) || subscription_announce(s) < 0)
                        return false;
        }
        return true;
}

void connection_behind(Connection *connection) {
        Gateway *gateway = connection->role->gateway;

        if (connection->state != CONNECTION_CONNECTED || connection->catch_up > CATCH_UP_BLOCKED)
                return;
        if (connection_has_room(connection)) {
                queue(gateway, connection);
                fetch_some(gateway);
        } else
                connection->catch_up = CATCH_UP_BLOCKED;
}

void connection_catch_up(Connection *connection) {
        if (connection->state == CONNECTION_CONNECTED && announce(connection))
                connection_behind(connection);
}

void catch_up_forget(Gateway *gateway, Connection *connection) {
        ConnectedUser *user = connection->user;

        if (connection->catch_up == CATCH_UP_QUEUED)
                TAILQ_REMOVE(&gateway->behind, connection, in_catch_up);
        connection->catch_up = CATCH_UP_IDLE;
        if (!connection->fetch)
                return;
        connection->fetch->connection = NULL;
        connection->fetch = NULL;
        user->n_fetches--;
        release_user(user);
}

void catch_up_stop(Gateway *gateway) {
        while (!LIST_EMPTY(&gateway->fetches)) {
                Fetch *fetch = LIST_FIRST(&gateway->fetches);

                rpc_client_forget(fetch->link->client, fetch->request);
                fetch_free(fetch);
        }
        gateway->retry = sd_event_source_disable_unref(gateway->retry);
        gateway->retrying = true;
}
