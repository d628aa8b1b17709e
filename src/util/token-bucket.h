/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A token bucket: `rate` tokens a second flow in, `burst` fit. Embed it zeroed: it starts full. */

#include <stdbool.h>
#include <stdint.h>

typedef struct TokenBucket {
        double tokens;
        uint64_t updated_usec; /* 0: never used */
} TokenBucket;

/* Takes n tokens if they are there. A rate of 0 means no limit. `now` is boottime_usec(). */
bool token_bucket_take(TokenBucket *bucket, double rate, double burst, double n, uint64_t now);
/* After how many microseconds n tokens are there, if nobody takes any; 0: now. n is at most burst. */
uint64_t token_bucket_wait(TokenBucket *bucket, double rate, double burst, double n, uint64_t now);
