/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Fetches what connections lack, page by page, as fast as their clients read; users take turns. */

#include "socket/gateway/gateway-state.h"

/* Pages under way, of all users and of one. */
#define CATCH_UP_MAX_FETCHES 32U
#define CATCH_UP_MAX_PER_USER 2U
/* Messages and conversations that one page is asked for. */
#define CATCH_UP_MAX_MESSAGES 1000U
#define CATCH_UP_MAX_POSITIONS 256U

/* Connection.catch_up. */
enum {
        CATCH_UP_IDLE, /* nothing to do, or nothing can be done until something happens */
        CATCH_UP_BLOCKED, /* until its client has read what waits */
        CATCH_UP_QUEUED, /* in gateway->behind */
        CATCH_UP_HELD, /* until another fetch of its user is done */
        CATCH_UP_FETCHING,
};

/* A connection may have subscriptions that are behind: fetches what they lack, now or when its turn comes or it
 * has room. Does not disconnect it. */
void connection_behind(Connection *connection);
/* A connection may have subscriptions that are behind or not announced, or has room again: tells its client of
 * subscriptions, and fetches what they lack; goes on by itself. */
void connection_catch_up(Connection *connection);

int catch_up_init(Gateway *gateway);
/* The connection ends. */
void catch_up_forget(Gateway *gateway, Connection *connection);
/* Before the gateway is freed. */
void catch_up_stop(Gateway *gateway);
