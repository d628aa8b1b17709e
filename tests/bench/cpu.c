/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>

#include "util/string-util.h"

static void close_directory(DIR **directory) {
        if (*directory)
                closedir(*directory);
}

static bool read_usage(const char *slice, const char *unit, uint64_t *ret) {
        char path[512], line[128];
        bool found = false;

        snprintf(path, sizeof(path), "%s/%s/cpu.stat", slice, unit);
        FILE *file = fopen(path, "re");
        if (!file)
                return false;
        while (!found && fgets(line, sizeof(line), file))
                found = sscanf(line, "usage_usec %" SCNu64, ret) == 1;
        fclose(file);
        return found;
}

int cpu_read(CpuUse *ret, const char *slice) {
        _cleanup_(close_directory) DIR *directory = opendir(slice);
        const struct dirent *entry;

        if (!directory)
                return -errno;
        ret->n = 0;
        while ((entry = readdir(directory)) && ret->n < CPU_MAX_UNITS) {
                CpuUnit *unit = &ret->units[ret->n];

                if (fnmatch("*.service", entry->d_name, 0) != 0 ||
                        !read_usage(slice, entry->d_name, &unit->usec))
                        continue;
                snprintf(unit->name, sizeof(unit->name), "%.63s", entry->d_name);
                ret->n++;
        }
        return ret->n > 0 ? 0 : -ENOENT;
}

static uint64_t usage_of(const CpuUse *use, const char *name) {
        for (unsigned i = 0; i < use->n; i++)
                if (streq(use->units[i].name, name))
                        return use->units[i].usec;
        return 0;
}

void cpu_print(const CpuUse *begin, const CpuUse *end, uint64_t n_messages) {
        double total = 0, n = (double) (n_messages ?: 1);

        printf("  CPU a message   ");
        for (unsigned i = 0; i < end->n; i++) {
                double usec = (double) (end->units[i].usec - usage_of(begin, end->units[i].name));
                total += usec;
                printf(" %s %.1f us ", end->units[i].name, usec / n);
        }
        printf("\n  together         %.1f us: %.0f messages a CPU second of all roles\n", total / n,
                total > 0 ? n * 1e6 / total : 0);
}
