/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The link to the group primaries: one RPC connection to each address of the routes. It attaches connections
 * to their user's conversations and takes what the primaries push.
 *
 * A push may come before the answer to the gateway.attach that it belongs to. So while some attachment is
 * under way, messages and changes of membership are held as well as handled; when the answer is there, what
 * it does not contain comes from what was held. When a link is broken and stands again, every connection is
 * attached again with its positions, a few at a time, and gets what it missed in between. */

#include "socket/session.h"
#include "stonechat/v1/internal.pb-c.h"

typedef struct Gateway Gateway;

/* What an attachment brought: the responses, one a primary, valid during the call; or why it failed. */
typedef void (*AttachDone)(Session *session, Sc__ErrorCode code, const char *detail,
        Sc__AttachResponse *const *responses, size_t n_responses);

int gateway_new(Gateway **ret, SocketRole *role);
/* After the last session is gone. */
Gateway *gateway_free(Gateway *gateway);
DEFINE_CLEANUP(Gateway *, gateway_free);

/* Attaches a session that is CONNECTING, with the positions its client gave; copies what it needs. `done`
 * comes once, not from within the call, and not if the session ends before. -ENOMEM, -ENOBUFS. */
int gateway_attach(
        Gateway *gateway, Session *session, Sc__Position **positions, size_t n_positions, AttachDone done);

/* The session ends: forgets it here and at the primaries. Harmless if it was never attached. */
void gateway_detach(Gateway *gateway, Session *session);

/* The table of routes has changed: links come and go. */
int gateway_update_routes(Gateway *gateway);

/* Grows with every push and attachment: says which came first. */
uint64_t gateway_serial(const Gateway *gateway);
size_t gateway_n_links(const Gateway *gateway, size_t *ret_connected);
