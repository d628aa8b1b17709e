/* SPDX-License-Identifier: Apache-2.0 */
#include "log/trace.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>

#include "util/id.h"
#include "util/string-util.h"

#define TRACE_FLAG_SAMPLED 0x01

static bool all_zero(const uint8_t *bytes, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (bytes[i] != 0)
                        return false;
        return true;
}

void trace_new(Trace *ret) {
        *ret = (Trace){};
        /* All zeros stands for "invalid" in both. */
        do
                unique_bytes(ret->id, sizeof(ret->id));
        while (all_zero(ret->id, sizeof(ret->id)));
        do
                unique_bytes(&ret->parent, sizeof(ret->parent));
        while (ret->parent == 0);
}

/* Decodes n bytes of lower-case hexadecimal that stand at s with other text behind them. */
static int decode_at(const char *s, uint8_t *out, size_t n) {
        char hex[33];

        assert_se(2 * n < sizeof(hex));
        memcpy(hex, s, 2 * n);
        hex[2 * n] = 0;
        return hex_decode(hex, out, n);
}

/* "VV-IIIIIIIIIIIIIIIIIIIIIIIIIIIIIIII-PPPPPPPPPPPPPPPP-FF" */
int trace_parse(const char *traceparent, Trace *ret) {
        const size_t length = TRACEPARENT_TEXT_SIZE - 1;
        uint8_t version, flags, parent[8];
        Trace trace = {};

        if (strnlen(traceparent, length) < length || traceparent[2] != '-' || traceparent[35] != '-' ||
                traceparent[52] != '-')
                return -EINVAL;
        if (decode_at(traceparent, &version, 1) < 0 || version == 0xff)
                return -EINVAL;
        if (traceparent[length] != 0 && (version == 0 || traceparent[length] != '-'))
                return -EINVAL;
        if (decode_at(traceparent + 3, trace.id, sizeof(trace.id)) < 0 ||
                decode_at(traceparent + 36, parent, sizeof(parent)) < 0 ||
                decode_at(traceparent + 53, &flags, 1) < 0)
                return -EINVAL;
        memcpy(&trace.parent, parent, sizeof(parent));
        trace.parent = be64toh(trace.parent);
        if (all_zero(trace.id, sizeof(trace.id)) || trace.parent == 0)
                return -EINVAL;
        trace.sampled = flags & TRACE_FLAG_SAMPLED;
        *ret = trace;
        return 0;
}

void trace_format(const Trace *trace, char out[static TRACEPARENT_TEXT_SIZE]) {
        char id[TRACE_ID_TEXT_SIZE];

        trace_format_id(trace, id);
        snprintf(out, TRACEPARENT_TEXT_SIZE, "00-%s-%016" PRIx64 "-%02x", id, trace->parent,
                trace->sampled ? TRACE_FLAG_SAMPLED : 0U);
}

void trace_format_id(const Trace *trace, char out[static TRACE_ID_TEXT_SIZE]) {
        hex_encode(trace->id, sizeof(trace->id), out);
}

void trace_begin(const char *traceparent, Trace *ret) {
        if (traceparent && trace_parse(traceparent, ret) >= 0)
                ret->asked = ret->sampled;
        else {
                trace_new(ret);
                ret->sampled = true;
        }
}
