/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Numbers that look random and are the same for the same seed, to pick test data. */

#include <stdint.h>
#include <stdlib.h>

typedef struct Random {
        uint64_t state; /* the seed, at first */
} Random;

/* SplitMix64 by Sebastiano Vigna: short, and good enough for this. */
static inline uint64_t random_next(Random *random) {
        uint64_t z = random->state += 0x9e3779b97f4a7c15;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
}

/* 0 … n - 1; n is at least 1. */
static inline unsigned random_below(Random *random, unsigned n) {
        return (unsigned) (random_next(random) % n);
}

/* Does something happen that happens so many times in a hundred? */
static inline int random_percent(Random *random, unsigned percent) {
        return percent > 0 && random_below(random, 100) < percent;
}

/* The seeds of a randomised test: the one in the environment variable alone, to run a failure again, or
 * *ret_end - *ret_first of them. */
static inline void random_seeds(const char *variable, uint64_t n, uint64_t *ret_first, uint64_t *ret_end) {
        const char *seed = getenv(variable);

        *ret_first = seed ? strtoull(seed, NULL, 10) : 1;
        *ret_end = *ret_first + (seed ? 1 : n);
}
