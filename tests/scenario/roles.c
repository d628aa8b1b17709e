/* SPDX-License-Identifier: Apache-2.0 */
#include "roles.h"

#include <dirent.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "bench/cpu.h"
#include "scenario/world.h"
#include "util/fd-util.h"
#include "util/string-util.h"

typedef struct Memory {
        uint64_t rss, pss; /* KiB */
} Memory;

typedef struct RoleWatch {
        char unit[64];
        pid_t pid;
        Memory before;
        uint64_t during; /* resident, KiB */
} RoleWatch;

static CpuUse cpu_before, cpu_after;
static RoleWatch roles[MAX_ROLES];
static unsigned n_roles;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static bool watching;
static pthread_t watcher;

pid_t role_pid(const char *unit) {
        char path[512];
        int pid = 0;

        snprintf(path, sizeof(path), "%s/%s/cgroup.procs", options.slice, unit);
        FILE *file = fopen(path, "re");
        if (!file)
                return 0;
        if (fscanf(file, "%d", &pid) != 1)
                pid = 0;
        fclose(file);
        return pid;
}

static Memory memory_of(pid_t pid) {
        char path[64], line[128];
        Memory memory = {};

        snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int) pid);
        FILE *file = pid > 0 ? fopen(path, "re") : NULL;
        if (!file)
                return memory;
        while (fgets(line, sizeof(line), file)) {
                (void) sscanf(line, "Rss: %" SCNu64, &memory.rss);
                (void) sscanf(line, "Pss: %" SCNu64, &memory.pss);
        }
        fclose(file);
        return memory;
}

static uint64_t resident_of(pid_t pid) {
        char path[64];
        uint64_t size, pages = 0;

        snprintf(path, sizeof(path), "/proc/%d/statm", (int) pid);
        FILE *file = pid > 0 ? fopen(path, "re") : NULL;
        if (!file)
                return 0;
        if (fscanf(file, "%" SCNu64 " %" SCNu64, &size, &pages) != 2)
                pages = 0;
        fclose(file);
        return pages * 4;
}

static void find_roles(void) {
        DIR *directory = opendir(options.slice);
        const struct dirent *entry;

        if (!directory)
                fail("%s: %m", options.slice);
        n_roles = 0;
        while ((entry = readdir(directory)) && n_roles < MAX_ROLES) {
                pid_t pid;
                if (fnmatch("stonechat-*.service", entry->d_name, 0) != 0 ||
                        !(pid = role_pid(entry->d_name)))
                        continue;
                RoleWatch *role = &roles[n_roles++];
                *role = (RoleWatch){.pid = pid, .before = memory_of(pid)};
                snprintf(role->unit, sizeof(role->unit), "%.63s", entry->d_name);
        }
        closedir(directory);
}

static void look(void) {
        for (unsigned i = 0; i < n_roles; i++) {
                uint64_t resident = resident_of(role_pid(roles[i].unit));
                roles[i].during = MAX(roles[i].during, resident);
        }
}

static void *watch(void *userdata) {
        static const struct timespec pause = {.tv_nsec = 100000000};

        for (;;) {
                pthread_mutex_lock(&mutex);
                bool on = watching;
                if (on)
                        look();
                pthread_mutex_unlock(&mutex);
                if (!on)
                        return NULL;
                nanosleep(&pause, NULL);
        }
}

void roles_begin(void) {
        if (!options.slice)
                return;
        find_roles();
        if (cpu_read(&cpu_before, options.slice) < 0)
                fail("%s: no processor time", options.slice);
        watching = true;
        if (pthread_create(&watcher, NULL, watch, NULL) != 0)
                fail("no thread");
}

void roles_end_of_during(void) {
        if (!watching)
                return;
        pthread_mutex_lock(&mutex);
        watching = false;
        look();
        pthread_mutex_unlock(&mutex);
        pthread_join(watcher, NULL);
        (void) cpu_read(&cpu_after, options.slice);
}

/* A unit that was started anew begins to count anew. */
static bool is_same(const char *unit) {
        for (unsigned i = 0; i < n_roles; i++)
                if (streq(roles[i].unit, unit))
                        return role_pid(unit) == roles[i].pid;
        return false;
}

static void print_cpu(const char *indent) {
        double sum = 0;

        printf("%sprocessor time meanwhile of roles that were not started anew, s:", indent);
        for (unsigned i = 0; i < cpu_after.n; i++) {
                uint64_t before = 0;
                for (unsigned k = 0; k < cpu_before.n; k++)
                        if (streq(cpu_before.units[k].name, cpu_after.units[i].name))
                                before = cpu_before.units[k].usec;
                double seconds =
                        (double) (cpu_after.units[i].usec - MIN(before, cpu_after.units[i].usec)) / 1e6;
                if (seconds < 0.01 || !is_same(cpu_after.units[i].name))
                        continue;
                sum += seconds;
                printf(" %.*s %.2f,", (int) strcspn(cpu_after.units[i].name + 10, "@."),
                        cpu_after.units[i].name + 10, seconds);
        }
        printf(" together %.2f\n", sum);
}

void roles_print(void) {
        if (n_roles == 0)
                return;
        printf("  memory, MiB: RSS (PSS)                      before  most during        after\n");
        for (unsigned i = 0; i < n_roles; i++) {
                Memory after = memory_of(role_pid(roles[i].unit));
                printf("  %-40s %7.1f (%.1f) %13.1f %13.1f (%.1f)\n", roles[i].unit,
                        (double) roles[i].before.rss / 1024, (double) roles[i].before.pss / 1024,
                        (double) roles[i].during / 1024, (double) after.rss / 1024,
                        (double) after.pss / 1024);
        }
        print_cpu("  ");
}

bool roles_are_the_same(void) {
        bool same = true;

        for (unsigned i = 0; i < n_roles; i++)
                if (role_pid(roles[i].unit) != roles[i].pid) {
                        printf("  %s is another process now: it ended meanwhile\n", roles[i].unit);
                        same = false;
                }
        return same;
}

void roles_print_line(void) {
        if (n_roles == 0)
                return;
        printf("    resident, MiB, before/most/after:");
        for (unsigned i = 0; i < n_roles; i++)
                printf("%s %.*s %.1f/%.1f/%.1f", i > 0 ? "," : "", (int) strcspn(roles[i].unit + 10, "@."),
                        roles[i].unit + 10, (double) roles[i].before.rss / 1024,
                        (double) roles[i].during / 1024,
                        (double) resident_of(role_pid(roles[i].unit)) / 1024);
        printf("\n");
        print_cpu("    ");
}
