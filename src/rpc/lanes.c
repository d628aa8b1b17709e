/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/lanes.h"

#include "rpc/frame.h"

/* An empty buffer that has grown beyond this is given back. */
#define BUFFER_KEEP (256U << 10)

struct BulkFrame {
        TAILQ_ENTRY(BulkFrame) link;
        Buffer data;
};

void lanes_init(Lanes *lanes) {
        *lanes = (Lanes){};
        TAILQ_INIT(&lanes->bulk);
}

static void drop_first(Lanes *lanes) {
        BulkFrame *frame = TAILQ_FIRST(&lanes->bulk);

        TAILQ_REMOVE(&lanes->bulk, frame, link);
        buffer_done(&frame->data);
        free(frame);
        lanes->bulk_start = 0;
}

void lanes_done(Lanes *lanes) {
        buffer_done(&lanes->urgent);
        while (!TAILQ_EMPTY(&lanes->bulk))
                drop_first(lanes);
        lanes_init(lanes);
}

static int add_bulk(Lanes *lanes, const Sc__Envelope *envelope) {
        BulkFrame *frame = new0(BulkFrame, 1);
        if (!frame)
                return -ENOMEM;
        int r = frame_append(&frame->data, envelope);
        if (r < 0) {
                free(frame);
                return r;
        }
        TAILQ_INSERT_TAIL(&lanes->bulk, frame, link);
        lanes->bulk_size += frame->data.size;
        return 0;
}

int lanes_add(Lanes *lanes, Lane lane, const Sc__Envelope *envelope) {
        if (lane == LANE_BULK)
                return add_bulk(lanes, envelope);
        int r = frame_append(&lanes->urgent, envelope);
        if (r < 0)
                lanes->urgent.error = 0; /* nothing was appended: the queue is as good as before */
        return r;
}

/* A batch is what is there when its turn comes; later frames wait for the next one. */
static bool begin_batch(Lanes *lanes) {
        lanes->urgent_end = lanes->urgent.size;
        return lanes->urgent_end > lanes->urgent_start;
}

bool lanes_next(Lanes *lanes, struct iovec *ret) {
        BulkFrame *first = TAILQ_FIRST(&lanes->bulk);

        if (lanes->urgent_end > lanes->urgent_start) {
                /* With nothing in the other lane a batch may grow. */
                if (!first)
                        begin_batch(lanes);
        } else if (!(lanes->bulk_turn && first) && !begin_batch(lanes) && !first)
                return false;
        if (lanes->urgent_end > lanes->urgent_start) {
                *ret = (struct iovec){
                        lanes->urgent.data + lanes->urgent_start, lanes->urgent_end - lanes->urgent_start};
                return true;
        }
        lanes->bulk_turn = true;
        *ret = (struct iovec){first->data.data + lanes->bulk_start, first->data.size - lanes->bulk_start};
        return true;
}

/* Drops what was sent: at once when it is all, else only when it is worth moving the rest. */
static void trim_urgent(Lanes *lanes) {
        if (lanes->urgent_start == lanes->urgent.size) {
                lanes->urgent.size = lanes->urgent_start = lanes->urgent_end = 0;
                if (lanes->urgent.allocated > BUFFER_KEEP)
                        buffer_done(&lanes->urgent);
        } else if (lanes->urgent_start > lanes->urgent.size / 2) {
                buffer_consume(&lanes->urgent, lanes->urgent_start);
                lanes->urgent_end -= lanes->urgent_start;
                lanes->urgent_start = 0;
        }
}

void lanes_sent(Lanes *lanes, size_t n) {
        BulkFrame *first = TAILQ_FIRST(&lanes->bulk);

        if (lanes->urgent_end > lanes->urgent_start) {
                lanes->urgent_start += n;
                if (lanes->urgent_start == lanes->urgent_end)
                        lanes->bulk_turn = first;
                trim_urgent(lanes);
                return;
        }
        lanes->bulk_start += n;
        lanes->bulk_size -= n;
        if (lanes->bulk_start < first->data.size)
                return;
        drop_first(lanes);
        lanes->bulk_turn = false;
}
