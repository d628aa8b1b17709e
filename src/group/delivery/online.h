/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Who is online where: which clients (connections) of which users are attached through which gateways, and
 * which conversations they hear. Memory only; gateways attach again after a restart.
 *
 * Each conversation that somebody online hears has a small list of gateways with the number of its users
 * there, so what a message costs grows with the gateways, and what an attach costs with the user's own
 * conversations; nothing is ever walked member by member. Personal conversations are not among them: the
 * clients of their user hear them.
 *
 * A gateway is known by an opaque pointer (its RPC connection), never followed here. */

#include <stdbool.h>
#include <stdint.h>

#include "util/macro.h"

#define ONLINE_MAX_GATEWAYS 1024U /* that may attach clients: -ENOBUFS beyond */

typedef struct Online Online;

typedef struct OnlineClient {
        const char *id, *user, *device;
        void *gateway;
} OnlineClient;

int online_new(Online **ret);
Online *online_free(Online *online);
DEFINE_CLEANUP(Online *, online_free);

/* Registers the client, again or moving it here from another gateway; strings are copied. *ret_serial names
 * this registration for online_is_attached(). -EEXIST: that id is another user's. */
int online_attach(Online *online, const OnlineClient *client, uint64_t *ret_serial);
/* Is that still the last registration? */
bool online_is_attached(const Online *online, const char *client, uint64_t serial);
/* Forgets the client if it is attached through this gateway. */
void online_detach(Online *online, const char *client, const void *gateway);
/* The gateway is gone, and all its clients with it. */
void online_forget_gateway(Online *online, const void *gateway);

/* All clients of the user hear the conversation from now on, later ones too until the last has left.
 * 0 also if they do already; -ENOENT: the user is not online. */
int online_subscribe(Online *online, const char *user, const char *conversation);
void online_unsubscribe(Online *online, const char *user, const char *conversation);

/* The gateways with somebody who hears the conversation, or with connections of the user, each once. Answers
 * their number, never more than ONLINE_MAX_GATEWAYS, for which `ret` has room. */
size_t online_gateways_of_conversation(const Online *online, const char *conversation, void **ret);
bool online_is_heard(const Online *online, const char *conversation);
size_t online_gateways_of_user(const Online *online, const char *user, void **ret);

/* The clients that hear the conversation, or all of the user; answers how many were written. They live until
 * something changes. */
size_t online_clients(const Online *online, const char *conversation, OnlineClient *ret, size_t max);
size_t online_clients_of_user(const Online *online, const char *user, OnlineClient *ret, size_t max);

unsigned online_n_clients(const Online *online);
unsigned online_n_users(const Online *online);
unsigned online_n_gateways(const Online *online);
