/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Intents: durable calls to another role or shard, stored with their cause (StoreWrite.intents), delivered
 * after the commit by whoever owns the partition they come from.
 *
 * An intent is delivered at least once, in the order of its number for each pair of source and target, until
 * the target has answered; then it is deleted. Temporary errors are tried again (after 50 ms, doubling up to
 * 5 s), and hold back only what follows for the same target; a permanent one parks the intent, which is
 * reported with MESSAGE_ID_INTENT_PARKED and counted, and lets the next ones pass; intents_retry_parked()
 * gives it a new number and sends it again. A target that does not know the method may be of an older
 * release: that is permanent only after an hour.
 *
 * After a crash the deliverer finds what is pending by shard in the store, without anybody loading the
 * partitions; and once more some two minutes later, as what the former process had submitted may land after its
 * end.
 *
 * The target drops repeats: it keeps the highest number of each source (record Received, in the target's
 * partition), raises it in the same write as what the intent does, and answers a repeat as it answered the
 * first. intent_is_repeat() and intent_follower() do that for a handler:
 *
 *      int handle_inbox_join(Call *call, const Sc__InboxJoinRequest *request, Sc__InboxJoinResponse
 * *response) { r = intent_is_repeat(call, store);                // 1: done before … followers[n++] =
 * intent_follower(call, &received); // into the write
 *      }
 *
 * An intent may be delivered a second time while its first delivery still runs (the connection was lost, or
 * the answer came too late), and so two handlers may both find that it is no repeat. The guard of the write
 * has to refuse the second of them:
 *
 * - an append takes intent_make_id() for client_msg_id: -EEXIST then means a repeat, to be answered as one;
 * - an INSERT has a key that follows from the intent: -EEXIST likewise;
 * - a PATCH or DELETE expects the version of the record, which is read before intent_is_repeat() is asked;
 * on -ESTALE the handler begins again.
 *
 * The handler of an intent is an internal call: it waits for no other role, nor for intents of its own. */

#include "bus/bus.h"
#include "service/dispatcher.h"
#include "store/store.h"
#include "util/id.h"

#define INTENTS_MAX_PENDING 100000U /* beyond, whoever would store one more is refused with -EBUSY */

typedef struct Intents Intents;

/* Begins to deliver what the store holds. All of them outlive it. */
int intents_new(Intents **ret, sd_event *event, FiberPool *fibers, Store *store, Dispatcher *dispatcher);
/* Stops delivering; whoever waits in intents_deliver() returns. What was sent and not answered is sent again
 * by the next process. Before the store is closed; the last fibers end when their writes do. */
void intents_stop(Intents *intents);
/* After the store is closed, or after intents_is_idle(). */
Intents *intents_free(Intents *intents);
DEFINE_CLEANUP(Intents *, intents_free);

/* Other delays than 50 ms and 5 s, for tests. */
void intents_set_retry(Intents *intents, uint64_t min_usec, uint64_t max_usec);
/* No fiber of the deliverer runs. */
bool intents_is_idle(const Intents *intents);

/* --- at the source --- */

/* store_write() of a write that may have intents: -EBUSY if the backlog is full; tells the deliverer. May
 * suspend. */
int intents_write(Intents *intents, Store *store, const StoreWrite *write, StoreWritten *ret);
/* Waits (at most usec) until this source's intents up to `number` are delivered, or parked, so that the
 * caller sees what he caused: 0, or -ETIME; they will be; or what the fiber was cancelled with. May suspend.
 */
int intents_deliver(Intents *intents, const char *source, uint64_t number, uint64_t usec);

/* For appends, and others that do not use intents_write(): */
/* 0, or -EBUSY: the backlog is full. Before a write with intents. */
int intents_check_room(const Intents *intents);
/* A write of this source with n intents, up to number `last`, was committed. */
void intents_stored(Intents *intents, const char *source, uint64_t last, size_t n);
/* A write of this source with intents had an unknown outcome, whatever became of it: looks into the store,
 * for as long as the write may still land. */
void intents_rescan(Intents *intents, const char *source);

/* --- upkeep --- */

/* Sends what was parked again; *ret: how many. May suspend. */
int intents_retry_parked(Intents *intents, unsigned *ret);

size_t intents_statistics(const Intents *intents, BusStatistic *ret, size_t max);

/* --- at the target --- */

/* 1: this call delivers an intent that was taken in before; 0: it does not, or it is none. May suspend. */
int intent_is_repeat(Call *call, Store *store);
/* The follower that notes the call's intent; `received` lives as long as the write. Only when
 * call->intent.source is set. */
StoreItem intent_follower(const Call *call, Sc__Received *received);
/* An id that follows from the intent. Only when call->intent.source is set. */
void intent_make_id(const Call *call, char out[static UUID_TEXT_SIZE]);
