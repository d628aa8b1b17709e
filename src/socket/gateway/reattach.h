/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Attaching connections again to a primary that has forgotten them or serves other shards than before, some
 * at a time. */

#include "socket/gateway/gateway-state.h"

/* Begins with all connections that were attached before; goes on by itself. */
void link_reattach(Link *link);
/* The link is broken: nothing more is begun. */
void link_reattach_stop(Link *link);
/* The connection ends: the link goes on with the next one. */
void link_reattach_skip(Link *link, const Connection *connection);
