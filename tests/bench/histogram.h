/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Latencies in microseconds, kept to two significant digits: 64 linear steps in every power of two. */

#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_STEPS 64U
#define HISTOGRAM_BUCKETS (HISTOGRAM_STEPS * 40U)

typedef struct Histogram {
        uint64_t counts[HISTOGRAM_BUCKETS];
        uint64_t n, max;
} Histogram;

static inline unsigned histogram_bucket(uint64_t usec) {
        if (usec < HISTOGRAM_STEPS)
                return (unsigned) usec;
        unsigned shift = 63U - (unsigned) __builtin_clzll(usec) - 6U;
        unsigned bucket = (shift + 1) * HISTOGRAM_STEPS + (unsigned) ((usec >> shift) - HISTOGRAM_STEPS);
        return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static inline uint64_t histogram_value(unsigned bucket) {
        if (bucket < 2 * HISTOGRAM_STEPS)
                return bucket;
        return (uint64_t) (HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS) << (bucket / HISTOGRAM_STEPS - 1);
}

static inline void histogram_add(Histogram *histogram, uint64_t usec) {
        histogram->counts[histogram_bucket(usec)]++;
        histogram->n++;
        if (usec > histogram->max)
                histogram->max = usec;
}

static inline uint64_t histogram_quantile(const Histogram *histogram, double q) {
        uint64_t rank = (uint64_t) (q * (double) histogram->n), seen = 0;

        for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
                seen += histogram->counts[i];
                if (seen > rank)
                        return histogram_value(i);
        }
        return histogram->max;
}

static inline void histogram_print(const Histogram *histogram, const char *what) {
        printf("  %-16s p50 %7.2f ms  p90 %7.2f ms  p99 %7.2f ms  p99.9 %7.2f ms  max %7.2f ms\n", what,
                (double) histogram_quantile(histogram, 0.5) / 1e3,
                (double) histogram_quantile(histogram, 0.9) / 1e3,
                (double) histogram_quantile(histogram, 0.99) / 1e3,
                (double) histogram_quantile(histogram, 0.999) / 1e3, (double) histogram->max / 1e3);
}
