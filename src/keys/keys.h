/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The keys of access tokens on disk, in a directory that only root can read. The roles get them as
 * credentials.
 *
 *      token.private.pem   signs: api
 *      token.public.pem    verifies: those in force, at most two, the newest first
 *      token.next.pem      will sign, while a rotation is under way
 *
 * A rotation has two steps, so that no role meets a token whose key it does not know: keys_prepare() adds the
 * next public key, all roles reload, keys_activate() lets the next key sign, api reloads. The key before
 * stays in force for verifying until keys_revoke(), or the next rotation. Each step can be repeated, and
 * whatever is interrupted leaves a state from which the next one goes on.
 *
 * Files are replaced as a whole, and are on disk when a function returns. */

#include "service/token.h"

/* The first key, unless there is one. 1: made, 0: there was one; its id. */
int keys_make(int directory, char ret_id[static TOKEN_KEY_ID_SIZE]);
/* A next key, and its public part before that of the present one. */
int keys_prepare(int directory, char ret_id[static TOKEN_KEY_ID_SIZE]);
/* The next key becomes the present one. -ENOENT: there is none. */
int keys_activate(int directory, char ret_id[static TOKEN_KEY_ID_SIZE]);
/* Only the present key stays in force. */
int keys_revoke(int directory, char ret_id[static TOKEN_KEY_ID_SIZE]);
