/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The scenarios. Each prints one table and answers whether nobody good was harmed: none disconnected, nothing
 * lost, everything in order. Times and memory are printed and never judged. */

#include <stdbool.h>

bool scenario_greedy(void);
bool scenario_recovery(void);
bool scenario_restart(void);
bool scenario_conversations(void);
bool scenario_target(void);
bool scenario_flood(void);
bool scenario_crash(void);
