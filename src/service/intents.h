/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Intents: durable calls to another role or shard, stored with their cause (StoreWrite.intents), delivered
 * after the commit by whoever owns the partition they come from.
 *
 * An intent is delivered at least once, in the order of its number for each pair of source and target, until
 * the target has answered; then it is deleted. Temporary errors are tried again (50 ms, doubling up to 5 s);
 * a permanent one parks the intent, which is reported with MESSAGE_ID_INTENT_PARKED and counted, and lets the
 * next ones pass; intents_retry_parked() gives it a new number and sends it again.
 *
 * After a crash the deliverer finds what is pending by shard in the store, without anybody loading the
 * partitions.
 *
 * The target drops repeats: it keeps the highest number of each source (record Received, in the target's
 * partition), raises it in the same write as what the intent does, and answers a repeat as it answered the
 * first. intent_is_repeat() and intent_follower() do that for a handler:
 *
 *      int handle_inbox_join(Call *call, const Sc__InboxJoinRequest *request, Sc__InboxJoinResponse *response) {
 *              r = intent_is_repeat(call, store);                // 1: done before
 *              …
 *              followers[n++] = intent_follower(call, &received); // into the write
 *      } */

#include "bus/bus.h"
#include "service/dispatcher.h"
#include "store/store.h"

#define INTENTS_MAX_PENDING 100000U /* beyond, whoever would store one more is refused with -EBUSY */

typedef struct Intents Intents;

/* Begins to deliver what the store holds. All of them outlive it. */
int intents_new(Intents **ret, sd_event *event, FiberPool *fibers, Store *store, Dispatcher *dispatcher);
/* Stops delivering; before the store is closed. */
void intents_stop(Intents *intents);
Intents *intents_free(Intents *intents);
DEFINE_CLEANUP(Intents *, intents_free);

/* 0, or -EBUSY: the backlog is full. Before a write with intents. */
int intents_check_room(const Intents *intents);
/* A write of this source with intents up to `number` was committed. */
void intents_stored(Intents *intents, const char *source, uint64_t number);
/* The same, and waits (at most usec) until they are delivered, so that the caller sees what it caused: 0, or
 * -ETIME; they will be. */
int intents_deliver(Intents *intents, const char *source, uint64_t number, uint64_t usec);

/* store_write() of a write that may have intents: checks the room, tells the deliverer. */
int intents_write(Intents *intents, Store *store, const StoreWrite *write, StoreWritten *ret);

/* Sends what was parked again; *ret: how many. */
int intents_retry_parked(Intents *intents, unsigned *ret);

size_t intents_statistics(const Intents *intents, BusStatistic *ret, size_t max);

/* --- at the target --- */

/* 1: this call delivers an intent that was taken in before; 0: it does not, or it is none. */
int intent_is_repeat(Call *call, Store *store);
/* The follower that notes the call's intent; `received` lives as long as the write. Only when
 * call->intent.source is set. */
StoreItem intent_follower(const Call *call, Sc__Received *received);
