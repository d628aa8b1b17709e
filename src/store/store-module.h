/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store/store-backend.h"

/* The back end of this kind: one that was registered, or else its module's, which is loaded and stays.
 * -ENOPKG if there is none, or its libraries are not there. */
int store_find_backend(const char *kind, const BackendClass **ret);
