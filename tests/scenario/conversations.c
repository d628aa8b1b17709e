/* SPDX-License-Identifier: Apache-2.0 */

/* One user in very many conversations, each with somebody else: he hears every one of them, also when he comes
 * back after all of them have spoken. */

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "scenario/device.h"
#include "scenario/roles.h"
#include "scenario/scenarios.h"
#include "util/hash.h"
#include "util/string-util.h"
#include "util/time-util.h"

typedef struct Channel {
        Conversation conversation; /* first */
        char epoch[UUID_TEXT_SIZE];
        bool subscribed, recoverable, known;
        uint64_t offset;
        UT_hash_handle hh;
} Channel;

static Channel *channels, *by_id;
static unsigned n_channels, first_friend;
static const Person *popular;

/* The device of the popular one. */
static struct {
        Endpoint endpoint;
        bool ready, refused;
        bool measuring; /* what is heard was said just now */
        unsigned n_subscribed;
        uint64_t n_heard, n_told, n_gaps, n_duplicates, reply_size;
        uint64_t begun_at, ready_at;
        Codes ended, errors;
        Histogram latency;
} device;

static Channel *find_channel(const char *id) {
        Channel *channel;

        HASH_FIND(hh, by_id, id, strlen(id), channel);
        return channel;
}

/* What came while he was away: recovered, or he is told where the conversation is now and can read its history. */
static void subscribed(const char *id, json_t *subscription) {
        Channel *channel = find_channel(id);
        const char *epoch = json_string_value(json_object_get(subscription, "epoch"));
        uint64_t offset = (uint64_t) json_integer_value(json_object_get(subscription, "offset"));

        if (!channel)
                return;
        if (!channel->subscribed)
                device.n_subscribed++;
        channel->subscribed = true;
        channel->recoverable = epoch && json_is_true(json_object_get(subscription, "recoverable"));
        snprintf(channel->epoch, sizeof(channel->epoch), "%s", strempty(epoch));
        if (json_is_true(json_object_get(subscription, "recovered")) || offset <= channel->offset)
                return;
        if (channel->known)
                device.n_told += offset - channel->offset;
        channel->known = true;
        channel->offset = offset;
}

static void hear_all(char *text, size_t size, bool live) {
        static const char begin[] = "{\"message\":{\"conversation\":\"";
        char *end = text + size, *at = text;

        while ((at = memmem(at, (size_t) (end - at), begin, sizeof(begin) - 1))) {
                char id[UUID_TEXT_SIZE];
                at += sizeof(begin) - 1;
                snprintf(id, sizeof(id), "%.36s", at);
                Channel *channel = find_channel(id);
                char *seq_text = strstr(at, "\"seq\":"),
                     *body = seq_text ? strstr(seq_text, "\"text\":\"") : NULL;
                if (!channel || !body)
                        continue;
                uint64_t seq = strtoull(seq_text + 6, NULL, 10);
                if (seq > channel->offset + 1)
                        device.n_gaps++;
                else if (seq <= channel->offset)
                        device.n_duplicates++;
                channel->offset = seq;
                device.n_heard++;
                if (live)
                        histogram_add(&device.latency, boottime_usec() - strtoull(body + 8, NULL, 10));
        }
}

static void connected(char *text, size_t size) {
        json_t *reply = json_loadb(text, size, 0, NULL), *subscription;
        const char *id;

        if (!reply)
                fail("a connect reply that is not JSON");
        device.reply_size = size;
        if (json_object_get(reply, "error")) {
                codes_add(&device.errors, (unsigned) json_integer_value(
                                                  json_object_get(json_object_get(reply, "error"), "code")));
                device.refused = true;
        } else {
                device.ready = true;
                device.ready_at = boottime_usec();
                hear_all(text, size, false);
                json_object_foreach(
                        json_object_get(json_object_get(reply, "connect"), "subs"), id, subscription)
                        subscribed(id, subscription);
        }
        json_decref(reply);
}

static void on_line(Endpoint *endpoint, char *text, size_t size) {
        const char *rest = startswith(text, "{\"id\":");

        if (rest && startswith(rest, "1,"))
                return connected(text, size);
        if (rest && strstr(text, "\"error\":{"))
                codes_add(&device.errors, (unsigned) strtoul(strstr(text, "\"code\":") + 7, NULL, 10));
        if (!rest && strstr(text, "\"subscribe\":{")) {
                json_t *push = json_object_get(json_loadb(text, size, 0, NULL), "push");
                subscribed(json_string_value(json_object_get(push, "channel")),
                        json_object_get(push, "subscribe"));
                return;
        }
        hear_all(text, size, !rest && device.measuring);
}

static void on_end(Endpoint *endpoint, int error) {
        codes_add(&device.ended, endpoint->client.close_code);
        device.ready = false;
}

static void connect_device(void) {
        _cleanup_buffer_ Buffer command = {};
        _cleanup_free_ char *begin =
                format_string("{\"id\":1,\"connect\":{\"token\":\"%s\",\"subs\":{", popular->token);
        bool first = true;

        device.endpoint.on_line = on_line;
        device.endpoint.on_end = on_end;
        device.refused = false;
        device.n_subscribed = 0;
        device.begun_at = boottime_usec();
        (void) buffer_append_string(&command, begin);
        FOREACH_ARRAY(channel, channels, n_channels) {
                char text[256];
                channel->subscribed = false;
                if (!channel->recoverable)
                        continue;
                snprintf(text, sizeof(text),
                        "%s\"%s\":{\"recover\":true,\"offset\":%" PRIu64 ",\"epoch\":\"%s\"}",
                        first ? "" : ",", channel->conversation.id, channel->offset, channel->epoch);
                first = false;
                (void) buffer_append_string(&command, text);
        }
        (void) buffer_append_string(&command, "}}}");
        if (command.error || endpoint_open(&device.endpoint, popular->address) < 0)
                fail("no connection");
        endpoint_send(&device.endpoint, (char *) command.data, command.size);
        printf("  connect command of %.1f MB\n", (double) command.size / 1e6);
}

static bool is_subscribed(void *userdata) {
        return device.n_subscribed == n_channels || device.refused || !endpoint_is_open(&device.endpoint);
}

static bool has_heard(void *userdata) {
        return device.n_heard + device.n_told >= *(uint64_t *) userdata ||
               !endpoint_is_open(&device.endpoint);
}

/* --- the others --- */

static void befriend(unsigned i, void *userdata) {
        conversation_open(&channels[i].conversation, &people[first_friend + i], popular);
}

static void answer(unsigned i, void *userdata) {
        char path[128];

        snprintf(path, sizeof(path), "/v1/conversations/%s/messages", channels[i].conversation.id);
        json_decref(rest_expect(popular, "POST", path, json_pack("{s:s}", "text", "0 0 0 welcome"), 201));
}

static void greet(unsigned i, void *userdata) {
        char path[128];
        _cleanup_free_ char *text = format_string("%" PRIu64 " 0 0 hello", boottime_usec());

        snprintf(path, sizeof(path), "/v1/conversations/%s/messages", channels[i].conversation.id);
        json_decref(
                rest_expect(&people[first_friend + i], "POST", path, json_pack("{s:s}", "text", text), 201));
}

static void *greet_all(void *userdata) {
        in_parallel(n_channels, greet, NULL);
        return NULL;
}

static bool arrive(const char *what) {
        connect_device();
        (void) loop_until(30, is_subscribed, NULL);
        bool good = device.n_subscribed == n_channels;
        printf("  %s: %s after %.2f s (reply of %.1f MB), %u of %u subscribed after %.2f s\n", what,
                device.ready ? "signed in" : "NOT SIGNED IN",
                (double) (device.ready_at - device.begun_at) / 1e6, (double) device.reply_size / 1e6,
                device.n_subscribed, n_channels, (double) (boottime_usec() - device.begun_at) / 1e6);
        return good;
}

bool scenario_conversations(void) {
        unsigned n = choose(options.clients, 20000, 500);
        char text[256];
        pthread_t greeting;
        bool good = true;

        printf("One user in %u conversations\n", n);
        channels = new0(Channel, n);
        if (!channels)
                fail("out of memory");
        n_channels = n;
        popular = &people[people_make(1)];
        first_friend = people_make(n);
        in_parallel(n, befriend, NULL);
        in_parallel(n, answer, NULL);
        FOREACH_ARRAY(channel, channels, n)
                HASH_ADD_KEYPTR(
                        hh, by_id, channel->conversation.id, strlen(channel->conversation.id), channel);
        set_up_is_done();

        roles_begin();
        good &= arrive("at first");
        uint64_t wanted = n;
        device.measuring = true;
        if (pthread_create(&greeting, NULL, greet_all, NULL) != 0)
                fail("no thread");
        (void) loop_until(180, has_heard, &wanted);
        pthread_join(greeting, NULL);
        loop_for(1);
        printf("  each of the others says something: %" PRIu64 " of %u heard\n", device.n_heard, n);
        good &= device.n_heard == wanted;

        endpoint_close(&device.endpoint);
        device.ready = device.measuring = false;
        greet_all(NULL);
        wanted += n;
        good &= arrive("coming back with all positions");
        (void) loop_until(60, has_heard, &wanted);
        loop_for(1);
        printf("  %" PRIu64 " of %u missed messages came, and he was told of %" PRIu64
               ", %.2f s after he began\n",
                device.n_heard - n, n, device.n_told,
                (double) (boottime_usec() - device.begun_at) / 1e6 - 1);
        roles_end_of_during();

        good &= device.n_heard + device.n_told == wanted && device.n_gaps == 0 && device.n_duplicates == 0 &&
                codes_total(&device.ended) == 0 && codes_total(&device.errors) == 0;
        latency_print_head();
        latency_print("others' send to his receive", &device.latency);
        printf("    %" PRIu64 " gaps, %" PRIu64 " doubles\n", device.n_gaps, device.n_duplicates);
        printf("    disconnected: %s\n", codes_text(&device.ended, text, sizeof(text)));
        printf("    errors: %s\n", codes_text(&device.errors, text, sizeof(text)));
        roles_print();
        return roles_are_the_same() && good;
}
