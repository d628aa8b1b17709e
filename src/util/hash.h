/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* uthash, the way it is used here: every table keeps its elements by HASH_ADD_…(hh, …), and each of these
 * may fail.
 *
 * HASH_NONFATAL_OOM is set for the whole build. Without it uthash ends the process when memory is out; with
 * it an element that found no memory is not in the table afterwards, which HASH_WAS_ADDED() tells. */

#include "util/macro.h"

#if !HASH_NONFATAL_OOM
#error "uthash has to report that it is out of memory: build with -DHASH_NONFATAL_OOM=1"
#endif

#include <uthash.h>

#define HASH_WAS_ADDED(element) ((element)->hh.tbl != NULL)
