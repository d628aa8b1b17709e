/* SPDX-License-Identifier: Apache-2.0 */
#include "lane.h"

#include "util/macro.h"

void lane_init(Lane *lane) {
        *lane = (Lane){.first = 1, .cursor = 1, .next = 1, .failed_from = UINT64_MAX};
}

static bool *acknowledged(Lane *lane, uint64_t number) {
        return &lane->acknowledged[number % LANE_WINDOW];
}

uint64_t lane_next(Lane *lane, unsigned window) {
        if (lane->failed_from < UINT64_MAX) {
                if (lane->n_under_way > 0)
                        return 0;
                lane->failed_from = UINT64_MAX;
                lane->last_acknowledged = 0;
                lane->cursor = lane->first;
        }
        while (lane->cursor < lane->next && *acknowledged(lane, lane->cursor))
                lane->cursor++;
        if (lane->n_under_way >= window || lane->cursor - lane->first >= LANE_WINDOW)
                return 0;
        if (lane->cursor == lane->next)
                *acknowledged(lane, lane->next++) = false;
        lane->n_under_way++;
        return lane->cursor++;
}

void lane_answered(Lane *lane, uint64_t number, bool error) {
        lane->n_under_way--;
        if (error) {
                lane->n_errors++;
                lane->failed_from = MIN(lane->failed_from, number);
                lane->n_overtaken += lane->last_acknowledged > number;
                return;
        }
        *acknowledged(lane, number) = true;
        lane->n_overtaken += number > lane->failed_from;
        lane->last_acknowledged = MAX(lane->last_acknowledged, number);
        while (lane->first < lane->next && *acknowledged(lane, lane->first))
                lane->first++;
}
