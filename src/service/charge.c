/* SPDX-License-Identifier: Apache-2.0 */
#include "service/charge.h"

#include "service/limiter.h"
#include "util/string-util.h"
#include "util/time-util.h"
#include "util/token-bucket.h"

/* Buckets of each kind: some 20 MB at most, under an attack from that many addresses. */
#define MAX_ENTRIES 100000U
/* Without memory for a bucket. */
#define OUT_OF_MEMORY_WAIT_USEC USEC_PER_SEC

struct Charges {
        const Conf *conf;
        Limiter *users, *addresses;
        Limiter *tracers; /* users, and addresses of those who have none */
        TokenBucket traces;
};

int charges_new(Charges **ret, const Conf *conf) {
        _cleanup_(charges_freep) Charges *charges = new0(Charges, 1);
        if (!charges)
                return -ENOMEM;
        charges->conf = conf;
        int r = limiter_new(&charges->users, MAX_ENTRIES);
        if (r >= 0)
                r = limiter_new(&charges->addresses, MAX_ENTRIES);
        if (r >= 0)
                r = limiter_new(&charges->tracers, MAX_ENTRIES);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(charges);
        return 0;
}

Charges *charges_free(Charges *charges) {
        if (!charges)
                return NULL;
        limiter_free(charges->users);
        limiter_free(charges->addresses);
        limiter_free(charges->tracers);
        free(charges);
        return NULL;
}

static uint64_t take(const LimiterTake *takes, size_t n) {
        uint64_t wait;

        int r = limiter_take(takes, n, boottime_usec(), &wait);
        if (r < 0)
                return OUT_OF_MEMORY_WAIT_USEC;
        return r > 0 ? 0 : wait;
}

static void add_user(
        const Charges *charges, const char *user, unsigned cost, LimiterTake *takes, size_t *n) {
        const Conf *conf = charges->conf;

        if (isempty(user) || conf->limits_user_rate == 0)
                return;
        takes[(*n)++] = (LimiterTake){charges->users, user, (double) conf->limits_user_rate,
                (double) conf->limits_user_burst, cost};
}

static void add_address(const Charges *charges, const char *address, unsigned cost,
        char key[static ADDRESS_KEY_SIZE], LimiterTake *takes, size_t *n) {
        const Conf *conf = charges->conf;

        if (isempty(address) || conf->limits_address_rate == 0 ||
                conf_list_contains(conf->api_trusted_proxies, address))
                return;
        address_limit_key(address, key);
        takes[(*n)++] = (LimiterTake){charges->addresses, key, (double) conf->limits_address_rate,
                (double) conf->limits_address_burst, cost};
}

uint64_t charge(Charges *charges, const char *user, const char *address, unsigned cost) {
        char key[ADDRESS_KEY_SIZE];
        LimiterTake takes[2];
        size_t n = 0;

        add_user(charges, user, cost, takes, &n);
        add_address(charges, address, cost, key, takes, &n);
        return n > 0 ? take(takes, n) : 0;
}

uint64_t charge_wait(Charges *charges, const char *address) {
        char key[ADDRESS_KEY_SIZE];
        LimiterTake take;
        size_t n = 0;

        add_address(charges, address, CHARGE_DEFAULT_COST, key, &take, &n);
        return n > 0 ? limiter_wait(&take, boottime_usec()) : 0;
}

/* Whoever asks for the trace: `address` is room for the name of one without a user. */
static bool take_trace_of(
        Charges *charges, const char *user, const char *address, char key[static ADDRESS_KEY_SIZE]) {
        uint64_t rate = charges->conf->log_trace_user_rate, wait;

        if (isempty(user))
                address_limit_key(strempty(address), key);
        const LimiterTake take = {
                charges->tracers, isempty(user) ? key : user, (double) rate / 60, (double) rate, 1};
        return limiter_take(&take, 1, boottime_usec(), &wait) > 0;
}

void charge_trace(Charges *charges, const char *user, const char *address, Trace *trace) {
        double rate = (double) charges->conf->log_trace_rate, burst = MAX(rate, 1), needed = 1;
        uint64_t now = boottime_usec();
        char key[ADDRESS_KEY_SIZE];

        if (!trace->sampled)
                return;
        if (!trace->asked || isempty(user))
                needed = MAX(burst / 2, 1);
        /* The bucket of all comes first: it is the one that is empty on a busy server. */
        trace->sampled = rate > 0 && token_bucket_wait(&charges->traces, rate, burst, needed, now) == 0 &&
                         take_trace_of(charges, user, address, key) &&
                         token_bucket_take(&charges->traces, rate, burst, 1, now);
}

unsigned charge_wait_seconds(uint64_t wait_usec) {
        return (unsigned) MIN((wait_usec + USEC_PER_SEC - 1) / USEC_PER_SEC, 3600U) ?: 1;
}
