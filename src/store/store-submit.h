/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Submissions that only the waiting functions of store.h need. As those named _start there. */

#include "store/operation.h"

/* *ret_name: of the operation, to find out about it when its outcome is unknown. */
int store_submit_write(
        Store *store, const StoreWrite *write, uint32_t *ret_name, StoreWriteDone done, void *userdata);
int store_submit_delete_entries(Store *store, const char *conversation, uint64_t last_seq, unsigned limit,
        StoreDeleteEntriesDone done, void *userdata);
int store_submit_check(Store *store, StoreCheckDone done, void *userdata);
