/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a stream has to send: frames in two lanes. What is small or hurries goes into the urgent lane, large answers
 * into the bulk lane. Within a lane the order stays. A bulk frame never delays urgent ones by more than itself, and
 * what has come into the urgent lane while a bulk frame was sent never delays the next bulk frame by more than
 * itself. Pure logic, no I/O. */

#include <sys/queue.h>
#include <sys/uio.h>

#include "rpc/rpc.h"
#include "util/bytes.h"

typedef enum Lane {
        LANE_URGENT,
        LANE_BULK,
} Lane;

typedef struct BulkFrame BulkFrame;

typedef struct Lanes {
        Buffer urgent; /* whole frames, one behind the other */
        size_t urgent_start; /* everything before this has been sent */
        size_t urgent_end; /* of the batch that is being sent: the end of a frame; urgent_start: none */
        TAILQ_HEAD(, BulkFrame) bulk;
        size_t bulk_start; /* so much of the first one has been sent */
        bool bulk_turn; /* the first one is being sent, or is next */
        size_t bulk_size; /* bytes of the bulk lane that have not been sent */
} Lanes;

void lanes_init(Lanes *lanes);
void lanes_done(Lanes *lanes);

/* Queues a frame: -EMSGSIZE if it is too large, -ENOMEM; nothing is queued then. */
int lanes_add(Lanes *lanes, Lane lane, const Sc__Envelope *envelope);
/* What to send next, false: nothing. The same until lanes_sent(), or longer. */
bool lanes_next(Lanes *lanes, struct iovec *ret);
/* So many bytes of lanes_next() were sent. */
void lanes_sent(Lanes *lanes, size_t n);

/* Bytes that wait. */
static inline size_t lanes_size(const Lanes *lanes) {
        return lanes->urgent.size - lanes->urgent_start + lanes->bulk_size;
}
