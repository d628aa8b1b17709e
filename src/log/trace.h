/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The id that follows one request through all roles and hosts: W3C Trace Context, version 00.
 *
 * It comes in as `traceparent` (HTTP header, or a member of a socket command's data), or is made at the
 * edge, and travels in every RPC envelope. A sampled trace writes its way into the journal (log_trace()), an
 * unsampled one costs nothing. The edge decides: a trace that the client marked as sampled, or any new one,
 * is sampled as long as the limits allow it (service/charge.h). */

#include <stdbool.h>
#include <stdint.h>

#include "util/macro.h"

typedef struct Trace {
        uint8_t id[16];
        uint64_t parent;
        bool sampled;
        bool asked; /* at the edge: the client marked it as sampled */
} Trace;

#define TRACE_ID_TEXT_SIZE 33
#define TRACEPARENT_TEXT_SIZE 56

/* A new random trace, not sampled. */
void trace_new(Trace *ret);
/* "00-<32 hex>-<16 hex>-<2 hex>": -EINVAL for anything else (higher versions are read as far as version 00
 * goes). */
int trace_parse(const char *traceparent, Trace *ret);
void trace_format(const Trace *trace, char out[static TRACEPARENT_TEXT_SIZE]);
void trace_format_id(const Trace *trace, char out[static TRACE_ID_TEXT_SIZE]);

/* What the edge does with an incoming request: parses `traceparent` (may be NULL or bad: then a new trace).
 * It is sampled unless the client says that it is not; charge_trace() comes next. */
void trace_begin(const char *traceparent, Trace *ret);

/* One station of a sampled trace, at info level; nothing otherwise. Use log/log.h's LogFields. */
#define log_trace(trace_pointer, fields, ...)                                                               \
        do {                                                                                                \
                const Trace *_trace = (trace_pointer);                                                      \
                if (_trace && _trace->sampled)                                                              \
                        log_full(LOG_INFO, &((LogFields){.trace = _trace, LOG_FIELDS_EXPAND fields}),       \
                                __VA_ARGS__);                                                               \
        } while (0)
