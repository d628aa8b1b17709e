/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What every back end must do, tested through store.h alone. A program sets fixture_config and runs the
 * groups. */

int conformance_run_writes(void);
int conformance_run_reads(void);
