/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The life of the api role: REST, accounts and sessions. */

#include "service/role.h"

int api_start(RoleProcess *process, void **ret);
void api_stop(void *role);
void api_reload(void *role);
bool api_healthy(void *role);
bool api_alive(void *role);
const char *api_status(void *role);
size_t api_statistics(BusStatistic *ret, size_t max, void *role);
void api_drain(void *role);
