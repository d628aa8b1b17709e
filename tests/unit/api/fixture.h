/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The api role without its surfaces: its methods, called through a dispatcher, on a store in memory, with the
 * cheapest password hashes, and a group role that is a few functions here. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/account/account.h"
#include "api/role-state.h"
#include "schema-tables.h"
#include "store-model.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define ADDRESS "192.0.2.1"

typedef struct Fixture {
        sd_event *event;
        Conf *conf;
        Model *model; /* the disk */
        Routes *routes;
        Dispatcher *dispatcher;
        Api api; /* all zero while the role is stopped */
        unsigned n_store_full_changes;

        /* the group role: what it was told by inbox.session_ended */
        bool group_full; /* its disk */
        bool group_away; /* refuses, as if it were not reachable */
        unsigned n_refused;
        bool group_is_slow; /* does not answer */
        unsigned n_waiting; /* for an answer */
        unsigned n_ended;
        int64_t ended_expires_at; /* of the last one */
        char ended_user[64], ended_session[64];
        char (*told)[64]; /* the sessions of all of them */
} Fixture;

extern Fixture fixture;

int fixture_setup(void **state);
/* With these methods besides, sentinel {}. */
int fixture_setup_with(const MethodBinding *bindings);
int fixture_teardown(void **state);

/* The role starts on what is stored, and ends. */
void fixture_start(void);
void fixture_stop(void);

/* One turn of the loop, which must bring something. */
void fixture_run_once(void);

/* Was the group role told that this session ended? */
bool fixture_was_told(const char *session);

/* The outcome of one call. Its response lives until the end of the test. */
typedef struct Outcome {
        bool done;
        Sc__ErrorCode code;
        char detail[256];
        void *response;
} Outcome;

/* Begins a call of the method by this user and session, from this address. Good until the outcome is there.
 * Passwords of the request must be wiped then. */
Call *fixture_begin(Outcome *outcome, const MethodInfo *method, const ProtobufCMessage *request,
        const char *user, const char *session, const char *address);
void fixture_wait(const Outcome *outcome);
/* Both, from ADDRESS; the outcome is static. */
Outcome *fixture_ask(
        const MethodInfo *method, const ProtobufCMessage *request, const char *user, const char *session);

/* --- the methods that most tests need --- */

Call *begin_register(Outcome *outcome, const char *username, const char *password);
Outcome *register_user(const char *username, const char *password);
Call *begin_login(Outcome *outcome, const char *address, const char *username, const char *password);
Outcome *login_from(const char *address, const char *username, const char *password);
Outcome *login(const char *username, const char *password);
Sc__TokenResponse *must_login(const char *username, const char *password);
Call *begin_refresh(Outcome *outcome, const char *token);
Outcome *refresh(const char *token);
Outcome *logout(const char *user, const char *session);
bool session_is_active(const char *user, const char *session);
/* The user's sessions that are stored, expired or not. */
size_t count_sessions(const char *user);
