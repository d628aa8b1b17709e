/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the processors spent on each unit of a slice, read from its control groups. */

#include <stdint.h>

#define CPU_MAX_UNITS 16U

typedef struct CpuUnit {
        char name[64];
        uint64_t usec;
} CpuUnit;

typedef struct CpuUse {
        CpuUnit units[CPU_MAX_UNITS];
        unsigned n;
} CpuUse;

/* `slice`: the directory of its control group. */
int cpu_read(CpuUse *ret, const char *slice);
/* What was spent between the two for n messages. */
void cpu_print(const CpuUse *begin, const CpuUse *end, uint64_t n_messages);
