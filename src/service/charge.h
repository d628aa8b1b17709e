/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a user, and an address, may ask of an instance of a role at the edge: [Limits] in the configuration.
 * Every call over REST and every command on a socket is charged here, at the cost that its method's definition
 * names, to its user and to its address; what has no user (yet) to its address alone. So the same user has the
 * same limits on both, however many connections he has. */

#include "conf/conf.h"
#include "log/trace.h"
#include "util/macro.h"

typedef struct Charges Charges;

/* What anything costs that is no method. */
#define CHARGE_DEFAULT_COST 1U

/* conf outlives it; changed values hold at once. */
int charges_new(Charges **ret, const Conf *conf);
Charges *charges_free(Charges *charges);
DEFINE_CLEANUP(Charges *, charges_free);

/* Charges `cost` to the user and the address, either of which may be empty or NULL: 0, or the microseconds
 * after which it may be tried again; then nothing was charged. The address of a trusted proxy says nothing
 * about who asks, and is not charged. */
uint64_t charge(Charges *charges, const char *user, const char *address, unsigned cost);
/* As charge() for the cheapest call of the address, but takes nothing: to refuse before work is done for it. */
uint64_t charge_wait(Charges *charges, const char *address);

/* Leaves the trace, which trace_begin() has made, sampled or not: within [Log] TraceRate= of all together, and
 * TraceUserRate= of the user, or of the address of whoever has none. Half of the former is kept for traces that a
 * user has asked for. */
void charge_trace(Charges *charges, const char *user, const char *address, Trace *trace);

/* For people: in how many whole seconds, at least 1. */
unsigned charge_wait_seconds(uint64_t wait_usec);
