/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The records of a model's store, as sorted arrays, and what operations do to them: one at a time, at once,
 * and never wrong. What is asked of the order of things, of failures and crashes stands in store-model.c.
 * Out of memory ends the test. */

#include "random.h"
#include "store/operation.h"

typedef struct Disk Disk;

/* sees_other_conversations: an append is refused because of the same client_msg_id in another conversation,
 * as store.h allows. prefers_taken: an append that is both stale and taken is answered -EEXIST. */
Disk *disk_new(bool sees_other_conversations, bool prefers_taken);
Disk *disk_free(Disk *disk);

/* A write of any kind: sets r and the outcome. */
void disk_write(Disk *disk, Operation *operation);
/* Records with equal values of the index's fields come in random order. */
int disk_read(Disk *disk, const ReadItem *item, Random *random, Arena *arena, StoreRows *ret);
void disk_check(Disk *disk, Operation *operation);
