/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a submission must satisfy, on every back end: -EINVAL for anything else. The limits on followers and
 * bytes are operation.c's, which counts them. */

#include "store/store.h"

int check_guard(const StoreItem *item, const char *partition);
int check_follower(const StoreItem *item, const char *partition);
int check_intent(const StoreIntent *intent);
int check_entries(Sc__Message *const *entries, size_t n, const char *conversation);
int check_read(const StoreRead *read);
