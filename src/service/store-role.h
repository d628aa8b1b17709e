/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What every role that has a store does alike. */

#include "service/role.h"
#include "store/store.h"

/* The records that every role's store has beside its own: the last ones of StoreConfig.records, before NULL.
 * Needs "schema-tables.h". */
#define STORE_ROLE_RECORDS                                                                                  \
        &sc__intent__info, &sc__intent_counter__info, &sc__received__info, &sc__space_probe__info

/* Opens the store that the configuration names: "accounts" or "conversations". Failures are logged. */
int store_role_open(Store **ret, RoleProcess *process, const char *name, const MessageInfo *const *records);

/* Answers accounts.check or conversations.check: runs the engine's integrity check. May suspend. */
int store_role_check(Call *call, Store *store, Sc__StoreCheckResponse *response);

/* The store's figures, as they stand among the role's statistics: how many of `max` there are. */
size_t store_role_statistics(Store *store, BusStatistic *ret, size_t max);
