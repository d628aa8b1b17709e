/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The api role: REST, accounts and sessions. */

#include "api/accounts.h"
#include "api/health.h"
#include "api/rest.h"
#include "service/role.h"

typedef struct Api {
        RoleProcess *process;
        TokenKey *token_key;
        Store *store; /* accounts.db */
        Accounts *accounts;
        Health *health;
        Rest *rest;
        WebServer *web;
        bool draining;
        char status[128];
} Api;

int api_start(RoleProcess *process, void **ret);
void api_stop(void *role);
void api_reload(void *role);
bool api_healthy(void *role);
bool api_alive(void *role);
const char *api_status(void *role);
size_t api_statistics(BusStatistic *ret, size_t max, void *role);
void api_drain(void *role);
