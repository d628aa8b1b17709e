/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The memory of the server's roles, read from /proc: the processes are found by the control groups of their units. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_ROLES 8U

/* Takes the roles that run now and their memory as "before", and begins to watch how far it grows. */
void roles_begin(void);
/* From here on growth is not counted as "during"; takes "during" as the most that was seen. */
void roles_end_of_during(void);
/* Prints before, during (most) and after (now). */
void roles_print(void);
/* The same in one line, resident memory alone. */
void roles_print_line(void);
/* Is each the process it was at roles_begin()? Prints those which are not. */
bool roles_are_the_same(void);

/* The main process of a unit, such as "stonechat-group.service"; 0 if none. */
pid_t role_pid(const char *unit);
