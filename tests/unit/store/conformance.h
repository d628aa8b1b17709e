/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What every back end must do: the sentences of store.h, tested through store.h alone, and nothing beyond
 * them. A program sets fixture_config and runs the suite; tests/unit/store/conformance-table prints who
 * passes what. */

/* Runs all of it; the number of failures, for main(). */
int conformance_run(void);

int conformance_run_guards(void);
int conformance_run_followers(void);
int conformance_run_contract(void);
int conformance_run_intents(void);
int conformance_run_appends(void);
int conformance_run_order(void);
int conformance_run_durability(void);
int conformance_run_reads(void);
int conformance_run_values(void);
int conformance_run_fibers(void);
int conformance_run_random(void);
extern unsigned conformance_n_seeds; /* of the random operations, in one run */
