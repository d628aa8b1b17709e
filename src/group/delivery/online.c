/* SPDX-License-Identifier: Apache-2.0 */
#include "group/delivery/online.h"

#include <sys/queue.h>

#include "util/hash.h"
#include "util/string-util.h"

typedef struct GatewayCount {
        void *gateway;
        unsigned n;
} GatewayCount;

/* A set of gateways, each with how often it counts. Small: a host has a handful, and most users are at one. */
typedef struct Counts {
        GatewayCount first, *others;
        unsigned n, n_allocated; /* of the others */
} Counts;

typedef struct OnlineUser OnlineUser;
typedef struct OnlineChannel OnlineChannel;

typedef struct Client {
        OnlineUser *user;
        void *gateway;
        uint64_t serial;
        LIST_ENTRY(Client) of_user;
        UT_hash_handle hh;
        char id[]; /* NUL, device, NUL */
} Client;

/* One user in one conversation. */
typedef struct OnlineSubscription {
        struct SubscriptionKey {
                OnlineUser *user;
                OnlineChannel *channel;
        } key;
        LIST_ENTRY(OnlineSubscription) of_user, of_channel;
        UT_hash_handle hh;
} OnlineSubscription;

struct OnlineUser {
        Counts gateways; /* how many clients on each */
        LIST_HEAD(, Client) clients;
        LIST_HEAD(, OnlineSubscription) subscriptions;
        UT_hash_handle hh;
        char id[];
};

/* A conversation that somebody hears. */
struct OnlineChannel {
        Counts gateways; /* how many users on each */
        LIST_HEAD(, OnlineSubscription) subscriptions;
        UT_hash_handle hh;
        char id[];
};

struct Online {
        Client *clients;
        OnlineUser *users;
        OnlineChannel *channels;
        OnlineSubscription *subscriptions;
        Counts gateways; /* how many clients on each */
        uint64_t last_serial;
};

/* --- counts --- */

static GatewayCount *counts_at(Counts *counts, unsigned i) {
        return i == 0 ? &counts->first : &counts->others[i - 1];
}

static GatewayCount *counts_find(const Counts *counts, const void *gateway) {
        for (unsigned i = 0; i < counts->n; i++)
                if (counts_at((Counts *) counts, i)->gateway == gateway)
                        return counts_at((Counts *) counts, i);
        return NULL;
}

/* 1 if the gateway is new in the set. */
static int counts_add(Counts *counts, void *gateway) {
        GatewayCount *count = counts_find(counts, gateway);

        if (count) {
                count->n++;
                return 0;
        }
        if (counts->n > counts->n_allocated) {
                unsigned n = counts->n_allocated > 0 ? counts->n_allocated * 2 : 1;
                GatewayCount *others = reallocarray(counts->others, n, sizeof(*others));
                if (!others)
                        return -ENOMEM;
                counts->others = others;
                counts->n_allocated = n;
        }
        *counts_at(counts, counts->n++) = (GatewayCount){gateway, 1};
        return 1;
}

/* True if that was its last. */
static bool counts_remove(Counts *counts, const void *gateway) {
        GatewayCount *count = counts_find(counts, gateway);

        if (!count || --count->n > 0)
                return false;
        *count = *counts_at(counts, --counts->n);
        return true;
}

static size_t counts_list(const Counts *counts, void **ret) {
        size_t n = MIN(counts->n, ONLINE_MAX_GATEWAYS);

        for (unsigned i = 0; i < n; i++)
                ret[i] = counts_at((Counts *) counts, i)->gateway;
        return n;
}

/* --- users and channels --- */

static OnlineUser *find_user(const Online *online, const char *id) {
        OnlineUser *user;
        HASH_FIND_STR(online->users, id, user);
        return user;
}

static OnlineChannel *find_channel(const Online *online, const char *id) {
        OnlineChannel *channel;
        HASH_FIND_STR(online->channels, id, channel);
        return channel;
}

static Client *find_client(const Online *online, const char *id) {
        Client *client;
        HASH_FIND_STR(online->clients, id, client);
        return client;
}

static void channel_free_if_unused(Online *online, OnlineChannel *channel) {
        if (!LIST_EMPTY(&channel->subscriptions))
                return;
        HASH_DEL(online->channels, channel);
        free(channel->gateways.others);
        free(channel);
}

/* Takes the user's first n gateways off. */
static void channel_remove_user(OnlineChannel *channel, OnlineUser *user, unsigned n) {
        for (unsigned i = 0; i < n; i++)
                counts_remove(&channel->gateways, counts_at(&user->gateways, i)->gateway);
}

static void unsubscribe(Online *online, OnlineSubscription *subscription) {
        OnlineChannel *channel = subscription->key.channel;
        OnlineUser *user = subscription->key.user;

        channel_remove_user(channel, user, user->gateways.n);
        LIST_REMOVE(subscription, of_user);
        LIST_REMOVE(subscription, of_channel);
        HASH_DEL(online->subscriptions, subscription);
        free(subscription);

        channel_free_if_unused(online, channel);
}

static void user_free(Online *online, OnlineUser *user) {
        while (!LIST_EMPTY(&user->subscriptions))
                unsubscribe(online, LIST_FIRST(&user->subscriptions));
        HASH_DEL(online->users, user);
        free(user->gateways.others);
        free(user);
}

static OnlineUser *get_user(Online *online, const char *id) {
        size_t size = strlen(id) + 1;
        OnlineUser *user = find_user(online, id);

        if (user)
                return user;
        user = calloc(1, sizeof(*user) + size);
        if (!user)
                return NULL;
        memcpy(user->id, id, size);
        HASH_ADD_STR(online->users, id, user);
        if (!HASH_WAS_ADDED(user))
                return mfree(user);
        return user;
}

static OnlineChannel *get_channel(Online *online, const char *id) {
        size_t size = strlen(id) + 1;
        OnlineChannel *channel = find_channel(online, id);

        if (channel)
                return channel;
        channel = calloc(1, sizeof(*channel) + size);
        if (!channel)
                return NULL;
        memcpy(channel->id, id, size);
        HASH_ADD_STR(online->channels, id, channel);
        if (!HASH_WAS_ADDED(channel))
                return mfree(channel);
        return channel;
}

/* --- clients --- */

/* Takes one client of the user off the gateway; with its last there the conversations lose the gateway. */
static void user_leave_gateway(OnlineUser *user, void *gateway) {
        OnlineSubscription *subscription;

        if (counts_remove(&user->gateways, gateway))
                LIST_FOREACH(subscription, &user->subscriptions, of_user)
                        counts_remove(&subscription->key.channel->gateways, gateway);
}

static int user_enter_gateway(OnlineUser *user, void *gateway) {
        OnlineSubscription *subscription;
        int r;

        r = counts_add(&user->gateways, gateway);
        if (r <= 0)
                return r;
        LIST_FOREACH(subscription, &user->subscriptions, of_user) {
                r = counts_add(&subscription->key.channel->gateways, gateway);
                if (r < 0)
                        goto undo;
        }
        return 0;

undo:;
        OnlineSubscription *failed = subscription;
        LIST_FOREACH(subscription, &user->subscriptions, of_user) {
                if (subscription == failed)
                        break;
                counts_remove(&subscription->key.channel->gateways, gateway);
        }
        counts_remove(&user->gateways, gateway);
        return r;
}

static void client_free(Online *online, Client *client) {
        OnlineUser *user = client->user;

        LIST_REMOVE(client, of_user);
        HASH_DEL(online->clients, client);
        user_leave_gateway(user, client->gateway);
        counts_remove(&online->gateways, client->gateway);
        if (LIST_EMPTY(&user->clients))
                user_free(online, user);
        free(client);
}

static Client *client_new(const OnlineClient *description) {
        const char *device = strempty(description->device);
        size_t id_size = strlen(description->id) + 1, device_size = strlen(device) + 1;
        Client *client = calloc(1, sizeof(*client) + id_size + device_size);

        if (!client)
                return NULL;
        memcpy(client->id, description->id, id_size);
        memcpy(client->id + id_size, device, device_size);
        client->gateway = description->gateway;
        return client;
}

/* Counts the new client in; on failure nothing has changed and it is still the caller's. */
static int client_link(Online *online, Client *client, OnlineUser *user) {
        int r;

        r = counts_add(&online->gateways, client->gateway);
        if (r < 0)
                return r;
        r = user_enter_gateway(user, client->gateway);
        if (r < 0) {
                counts_remove(&online->gateways, client->gateway);
                return r;
        }
        HASH_ADD_STR(online->clients, id, client);
        if (!HASH_WAS_ADDED(client)) {
                user_leave_gateway(user, client->gateway);
                counts_remove(&online->gateways, client->gateway);
                return -ENOMEM;
        }
        client->user = user;
        LIST_INSERT_HEAD(&user->clients, client, of_user);
        return 0;
}

int online_attach(Online *online, const OnlineClient *description, uint64_t *ret_serial) {
        Client *old = find_client(online, description->id), *client;
        OnlineUser *user;
        int r;

        if (old && !streq(old->user->id, description->user))
                return -EEXIST;
        if (old && old->gateway == description->gateway) {
                *ret_serial = old->serial = ++online->last_serial;
                return 0;
        }
        if (online->gateways.n >= ONLINE_MAX_GATEWAYS &&
                !counts_find(&online->gateways, description->gateway))
                return -ENOBUFS;
        if (old)
                client_free(online, old);

        user = get_user(online, description->user);
        if (!user)
                return -ENOMEM;
        client = client_new(description);
        r = client ? client_link(online, client, user) : -ENOMEM;
        if (r < 0) {
                free(client);
                if (LIST_EMPTY(&user->clients))
                        user_free(online, user);
                return r;
        }

        *ret_serial = client->serial = ++online->last_serial;
        return 0;
}

bool online_is_attached(const Online *online, const char *client_id, uint64_t serial) {
        const Client *client = find_client(online, client_id);
        return client && client->serial == serial;
}

void online_detach(Online *online, const char *client_id, const void *gateway) {
        Client *client = find_client(online, client_id);

        if (client && client->gateway == gateway)
                client_free(online, client);
}

void online_forget_gateway(Online *online, const void *gateway) {
        Client *client, *next;

        if (!counts_find(&online->gateways, gateway))
                return;
        HASH_ITER(hh, online->clients, client, next)
                if (client->gateway == gateway)
                        client_free(online, client);
}

/* --- subscriptions --- */

static OnlineSubscription *find_subscription(
        const Online *online, OnlineUser *user, OnlineChannel *channel) {
        struct SubscriptionKey key = {user, channel};
        OnlineSubscription *subscription;

        HASH_FIND(hh, online->subscriptions, &key, sizeof(key), subscription);
        return subscription;
}

/* Counts all gateways of the user in; on failure none. */
static int channel_add_user(OnlineChannel *channel, OnlineUser *user) {
        for (unsigned i = 0; i < user->gateways.n; i++) {
                int r = counts_add(&channel->gateways, counts_at(&user->gateways, i)->gateway);
                if (r < 0) {
                        channel_remove_user(channel, user, i);
                        return r;
                }
        }
        return 0;
}

static int subscription_add(Online *online, OnlineUser *user, OnlineChannel *channel) {
        _cleanup_free_ OnlineSubscription *subscription = new0(OnlineSubscription, 1);
        int r;

        if (!subscription)
                return -ENOMEM;
        r = channel_add_user(channel, user);
        if (r < 0)
                return r;

        subscription->key = (struct SubscriptionKey){user, channel};
        HASH_ADD(hh, online->subscriptions, key, sizeof(subscription->key), subscription);
        if (!HASH_WAS_ADDED(subscription)) {
                channel_remove_user(channel, user, user->gateways.n);
                return -ENOMEM;
        }
        LIST_INSERT_HEAD(&user->subscriptions, subscription, of_user);
        LIST_INSERT_HEAD(&channel->subscriptions, subscription, of_channel);
        TAKE_PTR(subscription);
        return 0;
}

int online_subscribe(Online *online, const char *user_id, const char *conversation) {
        OnlineUser *user = find_user(online, user_id);
        OnlineChannel *channel;
        int r;

        if (!user)
                return -ENOENT;
        channel = get_channel(online, conversation);
        if (!channel)
                return -ENOMEM;
        if (find_subscription(online, user, channel))
                return 0;
        r = subscription_add(online, user, channel);
        if (r < 0)
                channel_free_if_unused(online, channel);
        return r;
}

void online_unsubscribe(Online *online, const char *user_id, const char *conversation) {
        OnlineChannel *channel = find_channel(online, conversation);
        OnlineUser *user = find_user(online, user_id);
        OnlineSubscription *subscription = user && channel ? find_subscription(online, user, channel) : NULL;

        if (subscription)
                unsubscribe(online, subscription);
}

/* --- answers --- */

size_t online_gateways_of_conversation(const Online *online, const char *conversation, void **ret) {
        const OnlineChannel *channel = find_channel(online, conversation);
        return channel ? counts_list(&channel->gateways, ret) : 0;
}

bool online_is_heard(const Online *online, const char *conversation) {
        return find_channel(online, conversation) != NULL;
}

size_t online_gateways_of_user(const Online *online, const char *user_id, void **ret) {
        const OnlineUser *user = find_user(online, user_id);
        return user ? counts_list(&user->gateways, ret) : 0;
}

static size_t list_clients(const OnlineUser *user, OnlineClient *ret, size_t max) {
        const Client *client;
        size_t n = 0;

        LIST_FOREACH(client, &user->clients, of_user) {
                if (n == max)
                        break;
                ret[n++] = (OnlineClient){.id = client->id,
                        .user = user->id,
                        .device = client->id + strlen(client->id) + 1,
                        .gateway = client->gateway};
        }
        return n;
}

size_t online_clients(const Online *online, const char *conversation, OnlineClient *ret, size_t max) {
        const OnlineChannel *channel = find_channel(online, conversation);
        const OnlineSubscription *subscription;
        size_t n = 0;

        if (!channel)
                return 0;
        LIST_FOREACH(subscription, &channel->subscriptions, of_channel)
                n += list_clients(subscription->key.user, ret + n, max - n);
        return n;
}

size_t online_clients_of_user(const Online *online, const char *user_id, OnlineClient *ret, size_t max) {
        const OnlineUser *user = find_user(online, user_id);
        return user ? list_clients(user, ret, max) : 0;
}

unsigned online_n_clients(const Online *online) {
        return HASH_COUNT(online->clients);
}

unsigned online_n_users(const Online *online) {
        return HASH_COUNT(online->users);
}

unsigned online_n_gateways(const Online *online) {
        return online->gateways.n;
}

/* --- the whole --- */

int online_new(Online **ret) {
        Online *online = new0(Online, 1);

        if (!online)
                return -ENOMEM;
        *ret = online;
        return 0;
}

Online *online_free(Online *online) {
        Client *client, *next;

        if (!online)
                return NULL;
        HASH_ITER(hh, online->clients, client, next)
                client_free(online, client);
        free(online->gateways.others);
        return mfree(online);
}
