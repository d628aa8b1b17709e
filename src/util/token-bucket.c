/* SPDX-License-Identifier: Apache-2.0 */
#include "util/token-bucket.h"

#include "util/macro.h"
#include "util/time-util.h"

bool token_bucket_take(TokenBucket *bucket, double rate, double burst, double n, uint64_t now) {
        if (rate <= 0)
                return true;
        if (bucket->updated_usec == 0)
                bucket->tokens = burst;
        else if (now > bucket->updated_usec)
                bucket->tokens += rate * (double) (now - bucket->updated_usec) / (double) USEC_PER_SEC;
        bucket->tokens = MIN(bucket->tokens, burst);
        bucket->updated_usec = now;
        if (bucket->tokens < n)
                return false;
        bucket->tokens -= n;
        return true;
}
