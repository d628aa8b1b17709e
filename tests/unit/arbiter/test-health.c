/* SPDX-License-Identifier: Apache-2.0 */

/* Scripts of what systemd may say, and what must be concluded. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "arbiter/health.h"
#include "failing-allocations.h"
#include "util/string-util.h"

#define API "stonechat-api.service"
#define SECONDS(n) ((uint64_t) ((n) * (double) USEC_PER_SEC))
#define START SECONDS(1000)

typedef struct Script {
        ArbiterState state;
        ArbiterActions actions;
        UnitReading reading; /* of the unit in question, changed step by step */
} Script;

static int set_up(void **state) {
        *state = new0(Script, 1);
        return 0;
}

static int tear_down(void **state) {
        Script *script = *state;
        arbiter_state_done(&script->state);
        free(script);
        return 0;
}

static void step(Script *script, const ArbiterEvent *event, uint64_t now) {
        assert_int_equal(arbiter_step(&script->state, event, now, &script->actions), 0);
}

static void tick(Script *script, uint64_t now) {
        step(script, &(ArbiterEvent){.type = ARBITER_EVENT_TICK}, now);
}

static void report(Script *script, const char *name, ReportedHealth reported, uint64_t now) {
        step(script,
                &(ArbiterEvent){.type = ARBITER_EVENT_REPORTED_HEALTH, .name = name, .reported = reported},
                now);
}

/* Systemd says that the script's unit is in this state, in invocation "iN". */
static void says(Script *script, const char *name, const char *active, const char *sub, unsigned invocation,
        uint32_t n_restarts, uint64_t now) {
        UnitReading *reading = &script->reading;

        snprintf(reading->name, sizeof(reading->name), "%s", name);
        snprintf(reading->active, sizeof(reading->active), "%s", active);
        snprintf(reading->sub, sizeof(reading->sub), "%s", sub);
        snprintf(reading->result, sizeof(reading->result), "%s",
                streq(active, "failed") ? "exit-code" : "success");
        reading->invocation[0] = 0;
        if (invocation > 0)
                snprintf(reading->invocation, sizeof(reading->invocation), "i%u", invocation);
        reading->n_restarts = n_restarts;
        reading->started_usec = SECONDS(5000) + invocation * USEC_PER_SEC;
        step(script, &(ArbiterEvent){.type = ARBITER_EVENT_READING, .reading = reading}, now);
}

static const UnitHealth *unit(const Script *script, const char *name) {
        UnitHealth *found;
        HASH_FIND_STR(script->state.units, name, found);
        assert_non_null(found);
        return found;
}

static void group_runs(Script *script) {
        says(script, ARBITER_GROUP_SOCKET, "active", "running", 1, 0, START);
        says(script, ARBITER_GROUP_SERVICE, "active", "running", 1, 0, START);
}

static void test_start(void **state) {
        Script *script = *state;

        tick(script, START);
        assert_false(script->state.healthy); /* nothing is known of a group role */
        assert_true(script->actions.wake_at == USEC_INFINITY);

        says(script, ARBITER_GROUP_SERVICE, "inactive", "dead", 0, 0, START);
        assert_true(script->actions.publish_units);
        assert_false(script->state.healthy);
        assert_int_equal(script->state.epoch, 0);

        says(script, ARBITER_GROUP_SOCKET, "active", "listening", 1, 0, START);
        assert_true(script->state.healthy); /* the first request starts it */
        assert_true(script->actions.publish_health);

        says(script, ARBITER_GROUP_SERVICE, "activating", "start", 1, 0, START + SECONDS(1));
        assert_true(script->actions.publish_routes);
        says(script, ARBITER_GROUP_SERVICE, "active", "running", 1, 0, START + SECONDS(2));
        assert_false(script->actions.publish_routes || script->actions.publish_health);
        assert_int_equal(script->actions.n_changed, 0);
        assert_true(script->state.epoch == script->reading.started_usec);

        /* The same once more says nothing new. */
        says(script, ARBITER_GROUP_SERVICE, "active", "running", 1, 0, START + SECONDS(7));
        assert_false(script->actions.publish_units);
}

static void test_failed_must_stand(void **state) {
        Script *script = *state;

        group_runs(script);
        says(script, API, "active", "running", 1, 0, START);
        /* On its way to a restart. */
        says(script, API, "failed", "failed", 1, 0, START + SECONDS(10));
        assert_int_equal(script->actions.n_changed, 0);
        assert_true(script->actions.wake_at == START + SECONDS(11));
        says(script, API, "activating", "auto-restart", 1, 0, START + SECONDS(10.001));
        says(script, API, "active", "running", 2, 1, START + SECONDS(10.2));
        assert_int_equal(script->actions.n_changed, 0);
        assert_true(unit(script, API)->healthy && script->state.healthy);

        /* For good. */
        says(script, API, "failed", "failed", 2, 1, START + SECONDS(20));
        tick(script, START + SECONDS(20.9));
        assert_int_equal(script->actions.n_changed, 0);
        tick(script, START + SECONDS(21));
        assert_int_equal(script->actions.n_changed, 1);
        assert_string_equal(script->actions.changed[0]->reading.name, API);
        assert_string_equal(unit(script, API)->reason, "failed, result 'exit-code'");
        assert_true(script->actions.publish_health && !script->state.healthy);
        assert_true(script->actions.wake_at == USEC_INFINITY);

        /* Being started does not make it healthy, running does. */
        says(script, API, "activating", "start", 3, 1, START + SECONDS(30));
        assert_false(unit(script, API)->healthy);
        says(script, API, "active", "running", 3, 1, START + SECONDS(31));
        assert_int_equal(script->actions.n_changed, 1);
        assert_true(script->actions.changed[0]->healthy && script->state.healthy);
        assert_string_equal(unit(script, API)->reason, "");
}

/* `failed` seen twice, but of two incarnations: neither has stood. */
static void test_failed_twice(void **state) {
        Script *script = *state;

        group_runs(script);
        says(script, API, "failed", "failed", 1, 0, START);
        says(script, API, "failed", "failed", 2, 1, START + SECONDS(0.9));
        tick(script, START + SECONDS(1.5));
        assert_true(unit(script, API)->healthy);
        assert_true(script->actions.wake_at == START + SECONDS(1.9));
        tick(script, START + SECONDS(1.9));
        assert_false(unit(script, API)->healthy);
}

static void test_flapping(void **state) {
        Script *script = *state;

        group_runs(script);
        says(script, API, "active", "running", 1, 0, START);
        says(script, API, "active", "running", 2, 1, START + SECONDS(5));
        says(script, API, "active", "running", 3, 2, START + SECONDS(40));
        assert_true(unit(script, API)->healthy);
        says(script, API, "active", "running", 4, 3, START + SECONDS(64));
        assert_false(unit(script, API)->healthy); /* 5, 40, 64 */
        assert_string_equal(unit(script, API)->reason, "restarted 3 times within 60 s");
        assert_true(script->actions.wake_at == START + SECONDS(65));
        tick(script, START + SECONDS(65));
        assert_true(unit(script, API)->healthy);
        assert_int_equal(script->actions.n_changed, 1);

        /* Three at once, between two readings. */
        says(script, API, "active", "running", 7, 6, START + SECONDS(300));
        assert_false(unit(script, API)->healthy);
        /* The administrator resets the count: a new beginning. */
        says(script, API, "active", "running", 8, 0, START + SECONDS(301));
        assert_true(unit(script, API)->healthy);
        /* `systemctl restart` counts as nothing. */
        for (unsigned i = 0; i < 5; i++)
                says(script, API, "active", "running", 9 + i, 0, START + SECONDS(302 + i));
        assert_true(unit(script, API)->healthy);
}

static void test_many_restarts_before_we_looked(void **state) {
        Script *script = *state;

        group_runs(script);
        says(script, API, "active", "running", 9, 17, START);
        assert_true(unit(script, API)->healthy); /* long ago, for all we know */
        says(script, API, "active", "running", 10, 18, START + SECONDS(1));
        assert_true(unit(script, API)->healthy);
}

static void test_hanging_start(void **state) {
        Script *script = *state;

        group_runs(script);
        says(script, API, "activating", "start", 1, 0, START);
        assert_true(script->actions.wake_at == START + SECONDS(30));
        tick(script, START + SECONDS(29));
        assert_true(unit(script, API)->healthy);
        tick(script, START + SECONDS(30));
        assert_false(unit(script, API)->healthy);
        assert_string_equal(unit(script, API)->reason, "activating (start) for too long");

        /* A task takes as long as it takes; when it fails, the host serves all the same. */
        script->reading.oneshot = true;
        says(script, "stonechat-job@x.service", "activating", "start", 1, 0, START);
        tick(script, START + SECONDS(3000));
        assert_true(unit(script, "stonechat-job@x.service")->healthy);
        script->reading.oneshot = false;
        says(script, API, "active", "running", 1, 0, START + SECONDS(3001));
        script->reading.oneshot = true;
        says(script, "stonechat-job@x.service", "failed", "failed", 1, 0, START + SECONDS(3002));
        tick(script, START + SECONDS(3004));
        assert_false(unit(script, "stonechat-job@x.service")->healthy);
        assert_true(script->state.healthy);
}

static void test_reported_health(void **state) {
        Script *script = *state;

        group_runs(script);
        snprintf(script->reading.status, sizeof(script->reading.status), "The disk is full");
        says(script, API, "active", "running", 1, 0, START);
        report(script, API, REPORTED_HEALTHY, START);
        assert_true(unit(script, API)->healthy);
        report(script, API, REPORTED_UNHEALTHY, START);
        assert_false(unit(script, API)->healthy || script->state.healthy);
        assert_string_equal(unit(script, API)->reason, "says that it cannot do its work: The disk is full");
        /* Another process knows nothing of it. */
        says(script, API, "active", "running", 2, 0, START + SECONDS(1));
        assert_true(unit(script, API)->healthy);
        report(script, "stonechat-nobody.service", REPORTED_UNHEALTHY, START);
        assert_true(script->state.healthy);
}

static void test_epoch(void **state) {
        Script *script = *state;

        group_runs(script);
        uint64_t first = script->state.epoch;
        assert_true(first > 0);
        says(script, ARBITER_GROUP_SERVICE, "active", "running", 2, 1, START + SECONDS(1));
        assert_true(script->actions.publish_routes && script->state.epoch > first);
        uint64_t second = script->state.epoch;

        /* The clock was set back: the epoch grows all the same. */
        says(script, ARBITER_GROUP_SERVICE, "activating", "start", 0, 1, START + SECONDS(2));
        assert_true(script->state.epoch == second);
        snprintf(script->reading.invocation, sizeof(script->reading.invocation), "later");
        script->reading.started_usec = 7;
        step(script, &(ArbiterEvent){.type = ARBITER_EVENT_READING, .reading = &script->reading},
                START + SECONDS(3));
        assert_true(script->state.epoch == second + 1);

        /* Another arbiter finds the same number. */
        Script other = {};
        group_runs(&other);
        assert_true(other.state.epoch == first);
        arbiter_state_done(&other.state);
}

static void test_stopped_and_gone(void **state) {
        Script *script = *state;

        group_runs(script);
        says(script, API, "active", "running", 1, 0, START);
        says(script, API, "deactivating", "stop-sigterm", 1, 0, START + SECONDS(1));
        says(script, API, "inactive", "dead", 1, 0, START + SECONDS(2));
        assert_true(unit(script, API)->healthy && script->state.healthy);
        assert_int_equal(script->actions.n_changed, 0);

        /* Idle with its socket, then stopped altogether. */
        says(script, ARBITER_GROUP_SERVICE, "inactive", "dead", 1, 0, START + SECONDS(3));
        assert_true(script->state.healthy);
        says(script, ARBITER_GROUP_SOCKET, "inactive", "dead", 1, 0, START + SECONDS(4));
        assert_false(script->state.healthy);
        assert_int_equal(script->actions.n_changed, 0);

        step(script, &(ArbiterEvent){.type = ARBITER_EVENT_GONE, .name = API}, START + SECONDS(5));
        assert_true(script->actions.publish_units);
        assert_int_equal(HASH_COUNT(script->state.units), 2);
        step(script, &(ArbiterEvent){.type = ARBITER_EVENT_GONE, .name = API}, START + SECONDS(6));
        assert_false(script->actions.publish_units);
}

static void test_limit(void **state) {
        Script *script = *state;
        UnitReading reading = {.active = "active"};

        for (unsigned i = 0; i < ARBITER_MAX_UNITS; i++) {
                snprintf(reading.name, sizeof(reading.name), "stonechat-socket@%u.service", i);
                step(script, &(ArbiterEvent){.type = ARBITER_EVENT_READING, .reading = &reading}, START);
        }
        snprintf(reading.name, sizeof(reading.name), "stonechat-one-more.service");
        script->actions.wake_at = 5;
        assert_int_equal(arbiter_step(&script->state,
                                 &(ArbiterEvent){.type = ARBITER_EVENT_READING, .reading = &reading}, START,
                                 &script->actions),
                -ENOBUFS);
        assert_true(script->actions.wake_at == 5);
        assert_int_equal(HASH_COUNT(script->state.units), ARBITER_MAX_UNITS);
}

/* Each allocation fails once: the state is as before then, and the next reading is taken. */
static void test_out_of_memory(void **state) {
        Script *script = *state;
        UnitReading reading = {.active = "active"};
        const ArbiterEvent event = {.type = ARBITER_EVENT_READING, .reading = &reading};
        unsigned n_failures = 0;

        for (unsigned i = 0; i < ARBITER_MAX_UNITS; i++) {
                int r = -ENOMEM;

                snprintf(reading.name, sizeof(reading.name), "stonechat-socket@%u.service", i);
                for (unsigned n = 1; r < 0; n++) {
                        allocation_to_fail = n;
                        r = arbiter_step(&script->state, &event, START, &script->actions);
                        allocation_to_fail = 0;
                        assert_true(r == 0 || r == -ENOMEM);
                        assert_int_equal(HASH_COUNT(script->state.units), r == 0 ? i + 1 : i);
                        n_failures += r < 0;
                }
        }
        assert_true(n_failures > ARBITER_MAX_UNITS); /* the units, and the table */
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_start),
                TEST(test_failed_must_stand),
                TEST(test_failed_twice),
                TEST(test_flapping),
                TEST(test_many_restarts_before_we_looked),
                TEST(test_hanging_start),
                TEST(test_reported_health),
                TEST(test_epoch),
                TEST(test_stopped_and_gone),
                TEST(test_limit),
                TEST(test_out_of_memory),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
