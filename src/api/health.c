/* SPDX-License-Identifier: Apache-2.0 */
#include "api/health.h"

#include "schema-tables.h"

#define PROBE_ARENA_LIMIT (16U << 10)

struct Health {
        Api *api;
        HealthState asked; /* what is known of those being asked */
        HealthState state; /* when both were last asked */
        unsigned n_probes; /* fibers that ask */
        FiberQueue waiting;
};

int health_new(Health **ret, Api *api) {
        Health *health = new0(Health, 1);
        if (!health)
                return -ENOMEM;
        health->api = api;
        *ret = health;
        return 0;
}

Health *health_free(Health *health) {
        free(health);
        return NULL;
}

static void probe_done(Health *health) {
        if (--health->n_probes > 0)
                return;
        health->state = health->asked;
        fiber_queue_wake(&health->waiting);
}

static void probe_store(void *userdata) {
        Sc__User key = SC__USER__INIT, *user;
        Health *health = userdata;
        _cleanup_arena_ Arena arena;

        arena_init(&arena, PROBE_ARENA_LIMIT);
        key.id = (char *) "-"; /* nobody: what counts is that the store answers */
        if (store_get(health->api->store, &arena, &sc__user__info, &key.base, &user) >= 0)
                health->asked.store = store_room_is_full(health->api->room) ? HEALTH_FULL : HEALTH_OK;
        probe_done(health);
}

typedef struct Ping {
        Future future;
        HealthOf answer;
} Ping;

static void ping_unrefp(Ping **ping) {
        if (*ping)
                future_unref(&(*ping)->future);
}

static void on_pong(Call *call, Sc__ErrorCode code, const char *detail, const ProtobufCMessage *response,
        void *userdata) {
        Ping *ping = userdata;

        if (code == ERROR_NONE)
                ping->answer =
                        ((const Sc__GroupPingResponse *) response)->store_full ? HEALTH_FULL : HEALTH_OK;
        future_fulfil(&ping->future);
}

static HealthOf ask_group(Dispatcher *dispatcher) {
        static const Sc__GroupPingRequest request = SC__GROUP_PING_REQUEST__INIT;
        _cleanup_(ping_unrefp) Ping *ping = new0(Ping, 1);

        if (!ping)
                return HEALTH_UNAVAILABLE;
        future_init(&ping->future, NULL);
        future_ref(&ping->future);
        if (dispatcher_call(dispatcher, &method_group_ping, &request.base, NULL, NULL, on_pong, ping) < 0) {
                future_unref(&ping->future);
                return HEALTH_UNAVAILABLE;
        }
        return future_await(&ping->future) >= 0 ? ping->answer : HEALTH_UNAVAILABLE;
}

static void probe_group(void *userdata) {
        Health *health = userdata;

        health->asked.group = ask_group(health->api->dispatcher);
        probe_done(health);
}

/* In time no stack became free, or the role ends. */
static void on_probe_cancelled(_unused_ int r, void *userdata) {
        probe_done(userdata);
}

static int start_probe(Health *health, void (*probe)(void *userdata)) {
        FiberStart start = {
                .main = probe,
                .cancelled = on_probe_cancelled,
                .userdata = health,
                .key = "health",
                .deadline_usec = boottime_usec() + HEALTH_TIMEOUT_USEC,
        };

        health->n_probes++;
        int r = fiber_start(dispatcher_fibers(health->api->dispatcher), &start, NULL);
        if (r < 0)
                health->n_probes--;
        return r;
}

static int begin(Health *health) {
        health->asked = (HealthState){};
        health->n_probes = 1; /* us, until both have begun */
        int r = start_probe(health, probe_store);
        if (r >= 0)
                r = start_probe(health, probe_group);
        return r;
}

int health_check(Health *health, HealthState *ret) {
        if (health->n_probes == 0) {
                int r = begin(health);
                probe_done(health);
                if (r < 0)
                        return r;
        }
        if (health->n_probes > 0) {
                int r = fiber_queue_wait(&health->waiting, UINT64_MAX);
                if (r < 0)
                        return r;
        }
        *ret = health->state;
        return 0;
}
