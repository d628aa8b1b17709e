/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Accounts on a real store in a directory of their own, with the cheapest password hashes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/accounts.h"
#include "schema-tables.h"
#include "util/string-util.h"
#include "util/time-util.h"

typedef struct Fixture {
        char directory[32];
        sd_event *event;
        Conf *conf;
        TokenKey *key;
        Store *store;
        Accounts *accounts;
        unsigned n_sessions_ended;
        char ended_session[64]; /* the last one */
        unsigned n_store_full_changes;
} Fixture;

extern Fixture fixture;

int fixture_setup(void **state);
int fixture_teardown(void **state);
/* One turn of the loop, which must bring something. */
void fixture_run_once(void);

/* The outcome of one call. Its response lives until the next call. */
typedef struct Outcome {
        bool done;
        Sc__ErrorCode code;
        char detail[256];
        void *response;
} Outcome;

/* A call of the method by this user and session, from this address; answered into fixture_outcome. */
extern Outcome fixture_outcome;
Call *fixture_call(const MethodInfo *method, const char *user, const char *session, const char *address);
/* The same, answered elsewhere. */
Call *fixture_call_into(Outcome *outcome, const MethodInfo *method, const char *user, const char *session,
        const char *address);
/* Runs the loop until it is answered. */
Outcome *fixture_wait(void);
