/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Sends attachments in batches, and does what the answers say. */

#include "socket/gateway/attachment.h"

/* It has been CONNECTING for too long: that fails. */
void connection_attach_late(Connection *connection);
/* The connection ends, or may become another user's: undoes its attachments. */
void connection_detach(Gateway *gateway, Connection *connection);

/* Sends what waits, as much as may be under way. */
void link_send_attachments(Link *link);
/* The link is broken: what was sent waits again. */
void link_recall_attachments(Link *link);
/* The link leaves the routes: its attachments are done. */
void link_drop_attachments(Link *link);
