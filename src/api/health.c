/* SPDX-License-Identifier: Apache-2.0 */
#include "api/health.h"

#include "schema-tables.h"

#define HEALTH_MAX_WAITING 1024U

typedef struct Waiter {
        HealthDone done;
        void *userdata;
} Waiter;

/* A question put to store and group: lives until both have answered, which may be after the health object.
 */
typedef struct Probe {
        Health *health; /* NULL: nobody wants to know any more */
        unsigned n_pending;
        HealthState state;
} Probe;

struct Health {
        sd_event *event;
        Store *store;
        Dispatcher *dispatcher;
        Probe *probe; /* under way */
        sd_event_source *timer; /* ends it */
        size_t n_waiting;
        Waiter waiting[HEALTH_MAX_WAITING];
};

static void finish(Health *health) {
        Waiter waiting[HEALTH_MAX_WAITING];
        size_t n = health->n_waiting;
        HealthState state = health->probe->state;

        memcpy(waiting, health->waiting, n * sizeof(Waiter));
        health->n_waiting = 0;
        health->probe->health = NULL;
        health->probe = NULL;
        (void) sd_event_source_set_enabled(health->timer, SD_EVENT_OFF);
        FOREACH_ARRAY(waiter, waiting, n)
                waiter->done(&state, waiter->userdata);
}

static void probe_answered(Probe *probe) {
        if (--probe->n_pending > 0)
                return;
        if (probe->health)
                finish(probe->health);
        free(probe);
}

static void on_store_answer(int r, const StoreRows *rows, size_t n, void *userdata) {
        Probe *probe = userdata;

        probe->state.store = r >= 0;
        probe_answered(probe);
}

static void on_group_answer(Call *call, Sc__ErrorCode code, const char *detail,
        const ProtobufCMessage *response, void *userdata) {
        Probe *probe = userdata;

        probe->state.group = code == ERROR_NONE;
        probe_answered(probe);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        Health *health = userdata;

        if (health->probe)
                finish(health);
        return 0;
}

int health_new(Health **ret, sd_event *event, Store *store, Dispatcher *dispatcher) {
        _cleanup_(health_freep) Health *health = new0(Health, 1);
        if (!health)
                return -ENOMEM;
        health->event = sd_event_ref(event);
        health->store = store;
        health->dispatcher = dispatcher;
        int r = sd_event_add_time(event, &health->timer, CLOCK_BOOTTIME, UINT64_MAX, 0, on_timeout, health);
        if (r >= 0)
                r = sd_event_source_set_enabled(health->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(health);
        return 0;
}

Health *health_free(Health *health) {
        if (!health)
                return NULL;
        if (health->probe)
                finish(health);
        sd_event_source_disable_unref(health->timer);
        sd_event_unref(health->event);
        free(health);
        return NULL;
}

static int ask_store(Health *health, Probe *probe) {
        Sc__User key = SC__USER__INIT;

        key.id = (char *) "-"; /* nobody: what counts is that the store answers */
        return store_get(health->store, &sc__user__info, &key.base, on_store_answer, probe);
}

static int begin_probe(Health *health) {
        static const Sc__GroupPingRequest ping = SC__GROUP_PING_REQUEST__INIT;
        Probe *probe = new0(Probe, 1);

        if (!probe)
                return -ENOMEM;
        int r = sd_event_source_set_time_relative(health->timer, HEALTH_TIMEOUT_USEC);
        if (r >= 0)
                r = sd_event_source_set_enabled(health->timer, SD_EVENT_ONESHOT);
        if (r < 0) {
                free(probe);
                return r;
        }
        health->probe = probe;
        probe->health = health;
        /* The call may be answered on the spot; the store answers from the loop, and so after us. */
        probe->n_pending = 2;
        if (dispatcher_call(health->dispatcher, &method_group_ping, &ping.base, NULL, NULL, on_group_answer,
                    probe) < 0)
                probe->n_pending--;
        r = ask_store(health, probe);
        if (r < 0) {
                health->probe = NULL;
                probe->health = NULL;
                probe_answered(probe);
        }
        return r;
}

int health_check(Health *health, HealthDone done, void *userdata) {
        if (health->n_waiting >= HEALTH_MAX_WAITING)
                return -ENOBUFS;
        if (!health->probe) {
                int r = begin_probe(health);
                if (r < 0)
                        return r;
        }
        health->waiting[health->n_waiting++] = (Waiter){.done = done, .userdata = userdata};
        return 0;
}
