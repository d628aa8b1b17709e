/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What one user sends into one conversation: numbered texts, several under way. It is a client that wants its order
 * kept: when one fails, nothing more is sent until all that is under way is answered; then what failed goes out again,
 * in order, under the same ids, before anything new. */

#include <stdbool.h>
#include <stdint.h>

#define LANE_WINDOW 1024U /* texts under way, at most */

typedef struct Lane {
        uint64_t first; /* the first that is not acknowledged */
        uint64_t cursor; /* the next to be sent */
        uint64_t next; /* the first that was never sent */
        uint64_t failed_from; /* the first that failed while others are under way; UINT64_MAX: none */
        uint64_t last_acknowledged; /* the last one, since anything failed */
        unsigned n_under_way;
        uint64_t n_errors;
        uint64_t n_overtaken; /* failed, and one behind them was acknowledged all the same */
        bool acknowledged[LANE_WINDOW];
} Lane;

/* Texts are numbered from 1. */
void lane_init(Lane *lane);
/* The number of the text to be sent now, with so many under way at most; 0: none. */
uint64_t lane_next(Lane *lane, unsigned window);
void lane_answered(Lane *lane, uint64_t number, bool error);
