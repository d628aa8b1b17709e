/* SPDX-License-Identifier: Apache-2.0 */
#include "util/token-bucket.h"

#include "util/macro.h"
#include "util/time-util.h"

static void refill(TokenBucket *bucket, double rate, double burst, uint64_t now) {
        if (bucket->updated_usec == 0)
                bucket->tokens = burst;
        else if (now > bucket->updated_usec)
                bucket->tokens += rate * (double) (now - bucket->updated_usec) / (double) USEC_PER_SEC;
        bucket->tokens = MIN(bucket->tokens, burst);
        bucket->updated_usec = now;
}

bool token_bucket_take(TokenBucket *bucket, double rate, double burst, double n, uint64_t now) {
        if (rate <= 0)
                return true;
        refill(bucket, rate, burst, now);
        if (bucket->tokens < n)
                return false;
        bucket->tokens -= n;
        return true;
}

uint64_t token_bucket_wait(TokenBucket *bucket, double rate, double burst, double n, uint64_t now) {
        if (rate <= 0)
                return 0;
        refill(bucket, rate, burst, now);
        if (bucket->tokens >= n)
                return 0;
        /* Rounded up, so that they are really there then. */
        return (uint64_t) ((n - bucket->tokens) / rate * (double) USEC_PER_SEC) + 1;
}
