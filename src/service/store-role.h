/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What every role that has a store does alike. */

#include "bus/bus.h"
#include "service/call.h"
#include "store/store.h"

/* Answers a call of accounts.check or conversations.check: runs the engine's integrity check. */
void call_check_store(Call *call, Store *store);

/* The store's figures, as they stand among the role's statistics: how many of `max` there are. */
size_t store_role_statistics(Store *store, BusStatistic *ret, size_t max);
