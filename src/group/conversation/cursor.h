/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How a read cursor is stored: it only grows, and nothing else of the member is touched. */

#include "store/store.h"

/* Raises read_seq, read_count and has_written of the member to those of `record`, which lives as long as the
 * item. As a guard it is refused with -ENOENT if there is no such member. */
StoreItem cursor_patch(const Sc__Member *record);
