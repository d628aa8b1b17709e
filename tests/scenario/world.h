/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What every scenario shares: its options, the people who take part, the loop that serves their connections.
 *
 * A scenario is one process with one loop; only the set-up and what is deliberately blocking use threads.
 * Everybody has a loopback address of his own (127.x.y.z), so that limits on addresses hold as they do among
 * real clients. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "bench/client.h"
#include "util/id.h"

#define MAX_PEOPLE 45000U

typedef struct Options {
        struct sockaddr_in api, socket;
        const char *slice; /* control group of the server's units, or NULL: then no role is looked at */
        unsigned init; /* process id of the host's PID 1, 0: then nothing is done to its units */
        bool is_short;
        unsigned clients, messages, rate, rounds, seconds; /* 0: as the scenario thinks right */
} Options;
extern Options options;

/* The number given on the command line, or that of the form wanted. */
unsigned choose(unsigned given, unsigned normal, unsigned in_short_form);

typedef struct Person {
        char name[32], id[UUID_TEXT_SIZE];
        char *token;
        uint32_t address;
        unsigned number;
} Person;

/* Two people and what they say to each other. */
typedef struct Conversation {
        char id[UUID_TEXT_SIZE];
} Conversation;

extern Person people[MAX_PEOPLE];

/* Registers n people and signs them in; they are behind those who are there already. Answers the number of the
 * first. Whatever fails in the set-up ends the program. */
unsigned people_make(unsigned n);
/* Opens the direct conversation of two people, who asks for it first. */
void conversation_open(Conversation *conversation, const Person *from, const Person *to);
/* For pairs (first, first + 1), (first + 2, first + 3), …: n conversations. */
void conversations_open(Conversation *conversations, unsigned first, unsigned n);

/* Calls the function for 0 … n - 1 on several threads. */
void in_parallel(unsigned n, void (*function)(unsigned i, void *userdata), void *userdata);

/* One REST call that has to be answered with that status. */
json_t *rest_expect(const Person *person, const char *verb, const char *path, json_t *body, int status);

/* The limits of one user and address, lifted for the set-up, are from here on those of the installed package. */
void set_up_is_done(void);

/* Runs a command in the host; its exit status. The arguments end with NULL. */
int host_run(const char *const *command);

_Noreturn void fail(const char *format, ...) _printf_(1, 2);

/* --- the loop --- */

/* A connection that the loop serves. */
typedef struct Endpoint {
        Client client; /* first */
        void (*on_line)(struct Endpoint *endpoint, char *text, size_t size); /* NUL behind the text */
        void (*on_end)(struct Endpoint *endpoint, int error); /* the socket is closed behind it */
} Endpoint;

/* Connects from that address, sends the upgrade, and serves it. */
int endpoint_open(Endpoint *endpoint, uint32_t address);
void endpoint_send(Endpoint *endpoint, const char *text, size_t size);
/* Ends it without on_end(). */
void endpoint_close(Endpoint *endpoint);
static inline bool endpoint_is_open(const Endpoint *endpoint) {
        return endpoint->client.fd > 0;
}

/* Something to be done each millisecond or so. */
void loop_on_tick(void (*tick)(void *userdata), void *userdata);
/* In the child of a fork(): the loop begins anew, without the connections of the parent. */
void loop_forget(void);
/* One turn. */
void loop_turn(int timeout_msec);
/* Until the condition holds, at most that long; whether it holds. */
bool loop_until(double seconds, bool (*condition)(void *userdata), void *userdata);
void loop_for(double seconds);
