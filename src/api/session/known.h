/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where a user signed in from before: devices, by a token that their login was answered with, and addresses.
 * These have tries of their own, so whoever guesses at the password from elsewhere locks out other strangers
 * only. The latest KNOWN_MAX of each user are stored; a hash stands for each. */

#include "api/role-state.h"

#define KNOWN_MAX 32U
#define KNOWN_MAX_CHANGES (KNOWN_MAX + 2U) /* followers of one login */
#define KNOWN_NAME_SIZE 48U
#define DEVICE_TOKEN_SIZE 44U /* 32 bytes in base64url without padding, with NUL */

typedef struct Known {
        Sc__KnownOrigin **origins; /* those stored, in the call's arena */
        size_t n;
        const char *device; /* the name of the one that signs in, if it is known; else NULL */
        const char *address; /* likewise */
} Known;

/* Those of the user (NULL: there is no such user, which costs as much), and which of them signs in. May
 * suspend. */
int known_read(Call *call, const char *user, const char *device_token, Known *ret);

/* Takes one try of whoever signs in to the account with this folded name: from the known device's, else from
 * the known address's, else from those that all strangers share. 0, or the call was refused. */
int known_limit(Call *call, const Known *known, const char *user, const char *username);

/* What a login stores of this: followers of its write. The device's token is the one it presented if that is
 * known, else a new one. All of it lives in the call's arena. */
int known_remember(Call *call, const Known *known, const char *user, const char *presented,
        const char **ret_device_token, StoreItem items[static KNOWN_MAX_CHANGES], size_t *ret_n);
