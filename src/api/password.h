/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Passwords: Argon2id by libsodium, on threads of their own with a bounded queue, because one hash takes
 * tens of milliseconds and megabytes. Copies of passwords are wiped as soon as they are used.
 *
 * A stored hash is libsodium's text: algorithm, cost, salt and hash. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "util/macro.h"

typedef struct PasswordHasher PasswordHasher;

typedef struct PasswordCost {
        size_t memory; /* bytes */
        unsigned long long operations; /* passes over it */
} PasswordCost;

int password_hasher_new(PasswordHasher **ret, sd_event *event, unsigned n_threads, unsigned max_queued);
/* Finishes what is queued, calling the completions. */
PasswordHasher *password_hasher_free(PasswordHasher *hasher);
DEFINE_CLEANUP(PasswordHasher *, password_hasher_free);
bool password_hasher_is_alive(PasswordHasher *hasher);

/* r: 0, -EKEYREJECTED (wrong password) or -ENOMEM. hash: the new one; after a right password only if the
 * stored one has another cost than wanted and should be replaced, else NULL. Valid during the call. */
typedef void (*PasswordDone)(int r, const char *hash, void *userdata);

/* Both: -EBUSY when too many wait already, -ENOMEM, or -ECANCELED when the hasher is NULL: gone already. */
int password_hash(
        PasswordHasher *hasher, const char *password, PasswordCost cost, PasswordDone done, void *userdata);
/* stored NULL: there is no such user; takes as long as if there were, and ends with -EKEYREJECTED. */
int password_verify(PasswordHasher *hasher, const char *password, const char *stored, PasswordCost cost,
        PasswordDone done, void *userdata);
