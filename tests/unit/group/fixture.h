/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A group role on SQLite, in a directory of its own, or on a model in memory; gateways and the api role are
 * made up. */

#include <systemd/sd-event.h>

#include "group/conversation/conversation.h"
#include "group/group-role.h"
#include "schema-tables.h"
#include "service/dispatcher.h"
#include "store-model.h"

#define MAX_PUSHES 4096U

/* One push, as a gateway got it. */
typedef struct Push {
        void *gateway;
        const char *method;
        ProtobufCMessage *message; /* Deliver, MembershipChanged or Kick */
} Push;

/* What a call was answered. */
typedef struct Answer {
        bool done;
        Call *call; /* until then */
        Sc__ErrorCode code;
        char detail[200];
        ProtobufCMessage *response;
        size_t n_pushes; /* that came before it */
        const struct Fixture *fixture;
} Answer;

typedef struct Fixture {
        sd_event *event;
        Conf *conf;
        char directory[64];
        Model *model; /* NULL: SQLite */
        Dispatcher *dispatcher;
        GroupRole *role;
        Push pushes[MAX_PUSHES];
        size_t n_pushes;
        unsigned n_changed;
        bool hold_lookups; /* the api role does not answer */
        unsigned n_held;
        FiberQueue held;
        Answer *answers[4096]; /* freed in the end */
        size_t n_answers;
} Fixture;

extern uint64_t fixture_seed; /* of models */

int fixture_setup(void **state);
int fixture_setup_model(void **state);
int fixture_teardown(void **state);
/* Ends the role and begins a new one on the same store. */
void fixture_restart(Fixture *f);
void fixture_open_role(Fixture *f);
void fixture_close_role(Fixture *f);
/* Of a model: the process dies, and a new one begins. Calls under way may be answered anything. */
void fixture_crash(Fixture *f);

/* Begins a call; the answer is complete once ->done. `gateway` may be NULL. */
/* The same with an order: see service/runs.h. */
Answer *begin_ordered(Fixture *f, const MethodInfo *method, const char *user, void *gateway, uint64_t order,
        const void *request);
Answer *begin(Fixture *f, const MethodInfo *method, const char *user, void *gateway, const void *request);
/* Runs the loop until this one is answered. */
void finish(Fixture *f, const Answer *answer);
/* Runs the loop until no call is under way, nothing is left for the store, and no intent is pending; cursors
 * may still wait to be flushed. */
void settle(Fixture *f);
/* Runs the loop until this figure of the role's statistics is at least so much. */
void wait_for(Fixture *f, const char *statistic, uint64_t value);
uint64_t statistic(Fixture *f, const char *name);
/* Reads submitted to the store so far. */
uint64_t n_reads(Fixture *f);
uint64_t n_writes(Fixture *f);
/* No conversation is pinned. */
void assert_no_pins(Fixture *f);
/* Begins and finishes; fails the test unless the outcome is this. Answers the response. */
void *ask(Fixture *f, const MethodInfo *method, const char *user, const void *request);
void ask_refused(
        Fixture *f, const MethodInfo *method, const char *user, const void *request, Sc__ErrorCode code);

/* The delivery of an intent, whatever the answer is. */
Answer *begin_intent(
        Fixture *f, const MethodInfo *method, const char *source, uint64_t number, const void *request);
Answer *deliver_intent(
        Fixture *f, const MethodInfo *method, const char *source, uint64_t number, const void *request);

/* --- shorthands --- */
const char *open_direct(Fixture *f, const char *user, const char *other);
/* Of one client, which must not be refused. */
const Sc__AttachResponse *attach(Fixture *f, void *gateway, const char *client, const char *user);
Answer *begin_attach(Fixture *f, void *gateway, const char *client, const char *user, const char *session);
/* The error of the call, or of its only client. */
Sc__ErrorCode attach_outcome(const Answer *answer);
const Sc__RecoverResponse *recover(Fixture *f, Sc__Position **positions, size_t n);
const Sc__Subscription *find_subscription(const Sc__AttachResponse *response, const char *conversation);
Sc__SendRequest text_request(const char *conversation, const char *client_msg_id, const char *text);
const Sc__SendResponse *send_text(
        Fixture *f, const char *user, const char *conversation, const char *client_msg_id, const char *text);
/* Messages delivered to the gateway in this conversation, in order; answers their number. */
size_t delivered(const Fixture *f, const void *gateway, const char *conversation, const Sc__Message **ret);
const Sc__ConversationView *get(Fixture *f, const char *user, const char *conversation);
size_t n_pushed(const Fixture *f, const void *gateway, const char *method);
